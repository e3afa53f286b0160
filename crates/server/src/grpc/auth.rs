//! Tokens, roles and subjects: changed through the log, listed behind a barrier.

use super::{Context, Deadline, Refused};
use crate::access::guard::Guard;
use crate::access::new_token;
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::auth_service_server::AuthService;
use quorate_state::{Caller, Command, Envelope, Outcome, query};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

impl Service {
    async fn propose<T>(&self, request: &Request<T>, command: Command) -> Result<Outcome, Refused> {
        let deadline = Deadline::of(request.metadata());
        let (namespace, caller) = (String::new(), Caller::Anonymous);
        self.0.propose(Envelope { namespace, caller, guard: None, command }, deadline).await
    }
}

/// Lists all there are of something.
macro_rules! list {
    ($self:ident, $request:ident, $query:ident, $one:path) => {{
        let deadline = Deadline::of($request.metadata());
        let replica = &$self.0.replica;
        let view = replica.read(deadline.remaining()).await.map_err(Refused::from)?;
        let found = query::$query(&*view.tables, replica.group()).map_err(Refused::from)?;
        found.into_iter().map($one).collect()
    }};
}

#[tonic::async_trait]
impl AuthService for Service {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let (id, secret, token) = new_token();
        let hash = Sha256::digest(secret.as_bytes()).to_vec().into();
        let command = wire::auth::create_token(request.get_ref().clone(), id, hash)?;
        wire::auth::done(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::CreateTokenResponse { token, token_id: id.to_string() }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let command = wire::auth::revoke_token(request.get_ref())?;
        let revoked = wire::auth::gone(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::RevokeTokenResponse { revoked }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let tokens = list!(self, request, access_tokens, wire::auth::token);
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn put_role(
        &self,
        request: Request<v1::PutRoleRequest>,
    ) -> Result<Response<v1::PutRoleResponse>, Status> {
        let command = wire::auth::put_role(request.get_ref().clone())?;
        wire::auth::done(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::PutRoleResponse {}))
    }

    async fn delete_role(
        &self,
        request: Request<v1::DeleteRoleRequest>,
    ) -> Result<Response<v1::DeleteRoleResponse>, Status> {
        let command = wire::auth::delete_role(request.get_ref().clone());
        let deleted = wire::auth::gone(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::DeleteRoleResponse { deleted }))
    }

    async fn list_roles(
        &self,
        request: Request<v1::ListRolesRequest>,
    ) -> Result<Response<v1::ListRolesResponse>, Status> {
        let roles = list!(self, request, access_roles, wire::auth::role);
        Ok(Response::new(v1::ListRolesResponse { roles }))
    }

    async fn put_subject(
        &self,
        request: Request<v1::PutSubjectRequest>,
    ) -> Result<Response<v1::PutSubjectResponse>, Status> {
        let command = wire::auth::put_subject(request.get_ref().clone())?;
        wire::auth::done(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::PutSubjectResponse {}))
    }

    async fn delete_subject(
        &self,
        request: Request<v1::DeleteSubjectRequest>,
    ) -> Result<Response<v1::DeleteSubjectResponse>, Status> {
        let command = wire::auth::delete_subject(request.get_ref().clone());
        let deleted = wire::auth::gone(self.propose(&request, command).await?)?;
        Ok(Response::new(v1::DeleteSubjectResponse { deleted }))
    }

    async fn list_subjects(
        &self,
        request: Request<v1::ListSubjectsRequest>,
    ) -> Result<Response<v1::ListSubjectsResponse>, Status> {
        let subjects = list!(self, request, access_subjects, wire::auth::subject);
        Ok(Response::new(v1::ListSubjectsResponse { subjects }))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let Some(guard) = request.extensions().get::<Arc<Guard>>() else {
            return Ok(Response::new(v1::WhoAmIResponse::default()));
        };
        let grant = guard.grant();
        Ok(Response::new(v1::WhoAmIResponse {
            auth_enabled: true,
            name: grant.name.clone(),
            roles: grant.roles.clone(),
            expires_unix_ms: grant.expires_unix_ms,
        }))
    }
}
