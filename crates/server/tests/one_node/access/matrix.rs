//! Every method by everybody: no token, one that is none, a right role, one for other names, one for
//! other actions, none at all, one that ran out, one that was revoked. The methods come from the
//! descriptors, so that one that has no row in `cases.rs` fails here.

use super::cases::{Case, Needs, cases};
use super::raw::{call, piped};
use super::{ADMIN, AuthClient, asking, auth, made, rule, token};
use bytes::Bytes;
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use quorate_proto::{DESCRIPTORS, v1};
use std::collections::{BTreeMap, BTreeSet};
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::{AuthAction, AuthScope};

const ACTIONS: [AuthAction; 5] = [
    AuthAction::Read,
    AuthAction::Write,
    AuthAction::Consume,
    AuthAction::Publish,
    AuthAction::Admin,
];

/// What the descriptors say: methods by name, and the fields of a pipeline's calls by the type of their
/// requests.
struct Api {
    methods: BTreeMap<String, MethodDescriptorProto>,
    calls: BTreeMap<String, u32>,
}

fn api() -> Api {
    let all = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let files: Vec<_> = all.file.iter().filter(|file| file.package() == "quorate.v1").collect();
    let services = files.iter().flat_map(|file| &file.service);
    let methods = services.flat_map(|service| {
        let name = |method: &MethodDescriptorProto| format!("{}/{}", service.name(), method.name());
        service.method.iter().map(move |method| (name(method), method.clone()))
    });
    let mut messages = files.iter().flat_map(|file| &file.message_type);
    let call = messages.find(|message| message.name() == "PipelineCall").unwrap();
    let calls = call.field.iter().filter(|field| field.oneof_index.is_some());
    let calls =
        calls.map(|field| (field.type_name().to_owned(), u32::try_from(field.number()).unwrap()));
    Api { methods: methods.collect(), calls: calls.collect() }
}

/// Tokens for one method.
struct Tokens {
    right: String,
    /// For names that it is not about.
    elsewhere: Option<String>,
    /// For everything else that may be done in the services it touches.
    otherwise: Option<String>,
}

async fn tokens(admin: &mut AuthClient, case: &Case, nothing: &str) -> Tokens {
    let method = case.method;
    let (touched, pattern): (&[(AuthScope, AuthAction)], _) = match &case.needs {
        Needs::Nothing | Needs::Anybody => {
            return Tokens { right: nothing.to_owned(), elsewhere: None, otherwise: None };
        }
        Needs::Own(touched) => (touched, "own/*"),
        Needs::All(touched) => (touched, "*"),
        Needs::Some(scope, action) => (&[(*scope, *action)][..], "x"),
    };
    let all = |pattern: &str| {
        touched.iter().map(|(scope, action)| rule(*scope, *action, pattern)).collect::<Vec<_>>()
    };
    let right = token(admin, &format!("{method} right"), all(pattern)).await;
    let elsewhere = match &case.needs {
        Needs::Own(_) => Some(token(admin, &format!("{method} elsewhere"), all("other/*")).await),
        Needs::All(_) => Some(token(admin, &format!("{method} elsewhere"), all("own/*")).await),
        _ => None,
    };
    // All but the last thing that it takes.
    let scopes: BTreeSet<i32> = touched.iter().map(|(scope, _)| (*scope).into()).collect();
    let (last_scope, last_action) = *touched.last().unwrap();
    let mut others = Vec::new();
    for scope in scopes {
        let scope = AuthScope::try_from(scope).unwrap();
        for action in ACTIONS {
            if (scope, action) != (last_scope, last_action) {
                others.push(rule(scope, action, "*"));
            }
        }
    }
    let otherwise = Some(token(admin, &format!("{method} otherwise"), others).await);
    Tokens { right, elsewhere, otherwise }
}

fn code<T>(answer: &Result<T, Status>) -> Code {
    answer.as_ref().err().map_or(Code::Ok, Status::code)
}

struct Asked<'a> {
    channel: &'a Channel,
    case: &'a Case,
    streams: bool,
}

impl Asked<'_> {
    async fn by(&self, token: Option<&str>) -> Result<Option<Bytes>, Status> {
        call(self.channel, token, self.case.method, self.case.body.clone(), self.streams).await
    }

    async fn is(&self, who: &str, token: Option<&str>, expected: Code) {
        let answer = self.by(token).await;
        assert_eq!(code(&answer), expected, "{} by {who}: {answer:?}", self.case.method);
    }

    /// Whatever else it comes to, it is not refused for who asks.
    async fn passes(&self, who: &str, token: Option<&str>) {
        let answer = self.by(token).await;
        let denied = matches!(code(&answer), Code::Unauthenticated | Code::PermissionDenied);
        // A join is refused for its own kind of token.
        let own = self.case.method == "ClusterService/Join";
        assert!(!denied || own, "{} by {who}: {answer:?}", self.case.method);
        if own {
            assert_ne!(code(&answer), Code::Unauthenticated, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_by_everybody() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let channel = fixture.channel().await;
    let api = api();
    let mut rows: BTreeMap<&str, Case> =
        cases().into_iter().map(|case| (case.method, case)).collect();

    let nothing = token(&mut admin, "nothing", Vec::new()).await;
    let expired = made(&mut admin, "nothing", Some(1_000)).await.token;
    let revoked = made(&mut admin, "admin", None).await;
    let token_id = revoked.token_id;
    admin.revoke_token(v1::RevokeTokenRequest { token_id }).await.unwrap();
    let wrong = format!("{}x", revoked.token);
    let mut asks = auth(&fixture, &expired).await;
    while asks.who_am_i(v1::WhoAmIRequest {}).await.is_ok() {
        tokio::task::yield_now().await;
    }

    let mut piped_calls = 0;
    for (name, method) in &api.methods {
        let Some(case) = rows.remove(name.as_str()) else {
            panic!(
                "{name} is new: say in access/touches what it touches, and here who may call it"
            );
        };
        let asked = Asked { channel: &channel, case: &case, streams: method.client_streaming() };
        asked.passes("the admin", Some(ADMIN)).await;
        let nobodies = [
            ("nobody", None),
            ("one with a wrong token", Some(&*wrong)),
            ("one with words", Some("open sesame")),
            ("one whose time is over", Some(&*expired)),
            ("one who was revoked", Some(&*revoked.token)),
        ];
        for (who, token) in nobodies {
            match case.needs {
                Needs::Nothing => asked.passes(who, token).await,
                _ => asked.is(who, token, Code::Unauthenticated).await,
            }
        }
        let tokens = tokens(&mut admin, &case, &nothing).await;
        asked.passes("one who may", Some(&tokens.right)).await;
        let mut not = vec![];
        if tokens.otherwise.is_some() {
            not.push(("one who may do nothing", nothing.clone()));
        }
        not.extend(tokens.elsewhere.map(|token| ("one who may elsewhere", token)));
        not.extend(tokens.otherwise.map(|token| ("one who may do all else", token)));
        for (who, token) in &not {
            asked.is(who, Some(token), Code::PermissionDenied).await;
        }
        // The same as a call of a pipeline.
        let Some(field) = api.calls.get(method.input_type()) else { continue };
        if name == "KvService/ListStream" || name == "SessionService/KeepAliveStream" {
            continue;
        }
        piped_calls += 1;
        let passed = piped(&channel, &tokens.right, *field, &case.body).await;
        assert_ne!(passed, Some(Code::PermissionDenied), "{name} in a pipeline");
        for (who, token) in &not {
            let denied = piped(&channel, token, *field, &case.body).await;
            assert_eq!(denied, Some(Code::PermissionDenied), "{name} in a pipeline by {who}");
        }
    }
    assert!(rows.is_empty(), "there are rows for methods that are gone: {:?}", rows.keys());
    assert_eq!(piped_calls, api.calls.len(), "not all calls of a pipeline were tried");
}
