//! What somebody may do.

use super::admin_token::AdminToken;
use super::touches::{Touch, What};
use quorate_state::glob::{Pattern, covers};
use quorate_state::{ACCESS_ROLE_ADMIN, AccessAction, AccessRule, AccessService, Rejection};
use std::sync::Arc;

/// Who a caller is, and all that he may do.
pub(crate) struct Grant {
    /// For people, and the audit log.
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    /// When what he showed ends by itself, Unix time.
    pub(crate) expires_unix_ms: Option<u64>,
    /// When it was found out.
    pub(super) generation: u64,
    /// The file that his token stands in, as it was read.
    pub(super) file: Option<Arc<AdminToken>>,
    /// None: everything.
    rules: Option<Vec<Rule>>,
}

/// A rule, ready to be held against what is touched.
struct Rule {
    service: AccessService,
    actions: Vec<AccessAction>,
    /// None: the default namespace only.
    namespace: Option<Pattern>,
    pattern: Pattern,
    /// As it was written.
    text: bytes::Bytes,
}

impl Grant {
    /// Of somebody who may do everything.
    pub(super) fn everything(name: String, generation: u64) -> Self {
        let roles = vec![ACCESS_ROLE_ADMIN.to_owned()];
        Self { name, roles, expires_unix_ms: None, generation, file: None, rules: None }
    }

    /// Of somebody who may do what these rules allow.
    pub(super) fn of_rules(
        name: String,
        roles: Vec<String>,
        rules: &[AccessRule],
        generation: u64,
    ) -> Result<Self, Rejection> {
        let rules: Result<_, _> = rules.iter().map(Rule::read).collect();
        let rules = Some(rules?);
        Ok(Self { name, roles, expires_unix_ms: None, generation, file: None, rules })
    }

    /// Whether he may touch this.
    pub(crate) fn allows(&self, touch: &Touch<'_>) -> bool {
        match &self.rules {
            None => true,
            Some(rules) => rules.iter().any(|rule| rule.allows(touch)),
        }
    }

    /// Whether he may do everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.rules.is_none()
    }
}

impl Rule {
    fn read(rule: &AccessRule) -> Result<Self, Rejection> {
        let namespace = match rule.namespace.as_str() {
            "" => None,
            glob => Some(Pattern::parse(glob.as_bytes())?),
        };
        Ok(Self {
            service: rule.service,
            actions: rule.actions.clone(),
            namespace,
            pattern: Pattern::parse(&rule.pattern)?,
            text: rule.pattern.clone(),
        })
    }

    fn allows(&self, touch: &Touch<'_>) -> bool {
        let Touch { service, action, namespace, what } = touch;
        (self.service == AccessService::Any || self.service == *service)
            && self.actions.contains(action)
            && match &self.namespace {
                None => namespace.is_empty(),
                Some(glob) => glob.matches(namespace.as_bytes()),
            }
            && match what {
                What::Name(name) => self.pattern.matches(name),
                What::Glob(asked) => covers(&self.text, asked),
                What::Prefix(prefix) => {
                    self.pattern.is_prefix() && prefix.starts_with(self.pattern.literal_prefix())
                }
                What::All => self.pattern.is_prefix() && self.pattern.literal_prefix().is_empty(),
                What::Some => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AccessAction::{Read, Write};
    use AccessService::{Any, Bus, Kv};

    fn grant(rules: &[(AccessService, AccessAction, &str, &str)]) -> Grant {
        let rules: Vec<AccessRule> = rules
            .iter()
            .map(|(service, action, namespace, pattern)| AccessRule {
                service: *service,
                actions: vec![*action],
                namespace: (*namespace).to_owned(),
                pattern: pattern.as_bytes().to_vec().into(),
            })
            .collect();
        Grant::of_rules("x".to_owned(), Vec::new(), &rules, 0).unwrap()
    }

    fn touch<'a>(
        service: AccessService,
        action: AccessAction,
        namespace: &'a str,
        what: What<'a>,
    ) -> Touch<'a> {
        Touch { service, action, namespace, what }
    }

    #[test]
    fn a_rule_allows_what_it_says_and_nothing_else() {
        let grant = grant(&[(Kv, Read, "shop-*", "user.*")]);
        let name = What::Name(b"user.1");
        assert!(grant.allows(&touch(Kv, Read, "shop-eu", name)));
        for other in [
            touch(Kv, Write, "shop-eu", name),
            touch(Bus, Read, "shop-eu", name),
            touch(Kv, Read, "", name),
            touch(Kv, Read, "shop", name),
            touch(Kv, Read, "shop-eu", What::Name(b"users")),
        ] {
            assert!(!grant.allows(&other), "{other:?}");
        }
        assert!(
            !Grant::of_rules(String::new(), Vec::new(), &[], 0)
                .unwrap()
                .allows(&touch(Kv, Read, "", name))
        );
        assert!(Grant::everything(String::new(), 0).allows(&touch(Kv, Write, "any", What::All)));
    }

    #[test]
    fn many_names_at_once_need_a_rule_that_has_all_of_them() {
        let some = grant(&[(Any, Read, "", "a[*]*")]);
        let user = grant(&[(Any, Read, "", "user.*")]);
        let all = grant(&[(Any, Read, "", "*")]);
        let one = grant(&[(Any, Read, "", "user")]);
        let asked = |what| touch(Kv, Read, "", what);
        for (grant, what, allowed) in [
            (&user, What::Prefix(b"user."), true),
            (&user, What::Prefix(b"user.a"), true),
            (&user, What::Prefix(b"user"), false),
            (&user, What::Prefix(b""), false),
            (&user, What::Glob(b"user.?[ab]*"), true),
            (&user, What::Glob(b"user*"), false),
            (&user, What::All, false),
            (&user, What::Some, true),
            (&all, What::Prefix(b""), true),
            (&all, What::Glob(b"*"), true),
            (&all, What::All, true),
            (&one, What::Prefix(b"user"), false),
            (&one, What::Glob(b"user"), true),
            // What begins with a star in a class is no prefix.
            (&some, What::Prefix(b"a*"), false),
            (&some, What::All, false),
        ] {
            assert_eq!(grant.allows(&asked(what)), allowed, "{what:?}");
        }
    }
}
