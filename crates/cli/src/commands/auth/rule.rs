//! A rule as people write it: `kv:read,write:user.*`.

use quorate_client::{AuthAction, AuthRule, AuthScope};

const SCOPES: [(&str, AuthScope); 7] = [
    ("any", AuthScope::Any),
    ("kv", AuthScope::Kv),
    ("cache", AuthScope::Cache),
    ("queue", AuthScope::Queue),
    ("lock", AuthScope::Lock),
    ("bus", AuthScope::Bus),
    ("cluster", AuthScope::Cluster),
];

const ACTIONS: [(&str, AuthAction); 5] = [
    ("read", AuthAction::Read),
    ("write", AuthAction::Write),
    ("consume", AuthAction::Consume),
    ("publish", AuthAction::Publish),
    ("admin", AuthAction::Admin),
];

/// Reads a rule of the default namespace. What follows the second colon is the pattern, colons included.
pub(super) fn parse(text: &str) -> Result<AuthRule, String> {
    let wrong = || {
        "write it as SERVICE:ACTIONS:PATTERN, such as kv:read,write:user.* or bus:publish:*"
            .to_owned()
    };
    let mut parts = text.splitn(3, ':');
    let (Some(scope), Some(actions), Some(pattern)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    let scope = SCOPES.iter().find(|(name, _)| *name == scope).map(|(_, scope)| *scope);
    let scope =
        scope.ok_or_else(|| format!("there is no such service; one of {}", names(&SCOPES)))?;
    let actions = actions
        .split(',')
        .map(|action| {
            let found = ACTIONS.iter().find(|(name, _)| *name == action.trim());
            let missing = || format!("there is no action {action:?}; one of {}", names(&ACTIONS));
            found.map(|(_, action)| *action).ok_or_else(missing)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if pattern.is_empty() {
        return Err("the pattern is empty; * stands for all names".to_owned());
    }
    let pattern = pattern.as_bytes().to_vec().into();
    Ok(AuthRule { scope, actions, namespace: String::new(), pattern })
}

/// As [`parse`] reads it.
pub(super) fn text(rule: &AuthRule) -> String {
    let scope = SCOPES.iter().find(|(_, scope)| *scope == rule.scope).map_or("?", |(name, _)| name);
    let action = |action: &AuthAction| {
        ACTIONS.iter().find(|(_, known)| known == action).map_or("?", |(name, _)| name)
    };
    let actions: Vec<_> = rule.actions.iter().map(action).collect();
    format!("{scope}:{}:{}", actions.join(","), String::from_utf8_lossy(&rule.pattern))
}

fn names<T>(known: &[(&str, T)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike() {
        for rule in ["kv:read,write:user.*", "any:admin:*", "bus:publish:a:b", "cluster:read:*"] {
            assert_eq!(text(&parse(rule).unwrap()), rule);
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (wrong, why) in [
            ("kv", "SERVICE"),
            ("kv:read", "SERVICE"),
            ("keys:read:*", "cache"),
            ("kv:look:*", "consume"),
            ("kv::*", "consume"),
            ("kv:read:", "empty"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
