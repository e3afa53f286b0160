//! Who may do what: every method of the public API, by everybody who may and may not.

mod cases;
mod ends;
mod matrix;
mod raw;

use crate::fixture::Fixture;
use quorate_proto::v1;
use quorate_proto::v1::auth_service_client::AuthServiceClient;
use quorate_server::{Auth, AuthFiles};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// What stands in the file of the node.
pub(crate) const ADMIN: &str = "0123456789abcdef0123456789abcdef";

/// Shows a token.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.0)).expect("it is ASCII");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// A node that asks who calls.
pub(crate) async fn asking() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, ADMIN).unwrap();
    let auth = Auth::read(AuthFiles { admin_token: Some(file) }).unwrap();
    Fixture::start_with(|options| options.auth = Some(auth)).await
}

pub(crate) type AuthClient = AuthServiceClient<InterceptedService<Channel, Bearer>>;

pub(crate) async fn auth(fixture: &Fixture, token: &str) -> AuthClient {
    AuthServiceClient::with_interceptor(fixture.channel().await, Bearer(token.to_owned()))
}

pub(crate) fn rule(scope: v1::AuthScope, action: v1::AuthAction, pattern: &str) -> v1::AuthRule {
    v1::AuthRule {
        scope: scope.into(),
        actions: vec![action.into()],
        namespace: String::new(),
        pattern: pattern.as_bytes().to_vec().into(),
    }
}

/// Makes a role of this name, and a token that has it.
pub(crate) async fn token(admin: &mut AuthClient, name: &str, rules: Vec<v1::AuthRule>) -> String {
    let role = v1::AuthRole { name: name.to_owned(), rules };
    admin.put_role(v1::PutRoleRequest { role: Some(role) }).await.unwrap();
    made(admin, name, None).await.token
}

pub(crate) async fn made(
    admin: &mut AuthClient,
    role: &str,
    ttl_ms: Option<u64>,
) -> v1::CreateTokenResponse {
    let (name, roles) = (format!("for {role}"), vec![role.to_owned()]);
    let asked = v1::CreateTokenRequest { name, roles, ttl_ms };
    admin.create_token(asked).await.unwrap().into_inner()
}
