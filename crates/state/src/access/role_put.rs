//! Makes or replaces a role.

use super::{changed, check_role_name, count};
use crate::glob::Pattern;
use crate::limits::{ACCESS_ACTIONS_PER_RULE_MAX, ACCESS_ROLES_MAX, ACCESS_RULES_PER_ROLE_MAX};
use crate::rows::{self, AccessRoleRow};
use crate::scope::{Failure, Scope, at_most, within};
use crate::{AccessRolePut, AccessRule, Outcome, Read as _, Rejection, Txn as _, codec, keys};

impl AccessRolePut {
    /// What can be said of it without the state. Whoever proposes it asks first: an entry with more
    /// rules, or actions of a rule, than there may be does not decode.
    ///
    /// # Errors
    /// When its name is reserved or not what it has to be, or a rule means nothing; the rejection says
    /// which, counted from 0.
    pub fn check(&self) -> Result<(), Rejection> {
        check_role_name(&self.name)?;
        within("rules of a role", self.rules.len(), ACCESS_RULES_PER_ROLE_MAX as u64)?;
        self.rules.iter().enumerate().try_for_each(|(at, rule)| {
            check_rule(rule).map_err(|rejection| match rejection {
                Rejection::Invalid(why) => Rejection::Invalid(format!("rules[{at}]: {why}")),
                other => other,
            })
        })
    }
}

fn check_rule(rule: &AccessRule) -> Result<(), Rejection> {
    let AccessRule { service: _, actions, namespace, pattern } = rule;
    within("actions of a rule", actions.len(), ACCESS_ACTIONS_PER_RULE_MAX as u64)?;
    if actions.is_empty() {
        return Err(Rejection::Invalid("it names no action; name one at least".to_owned()));
    }
    let twice = (1..actions.len()).find(|at| actions[..*at].contains(&actions[*at]));
    if let Some(at) = twice {
        return Err(Rejection::Invalid(format!("the action {:?} is named twice", actions[at])));
    }
    if !namespace.is_empty() {
        Pattern::parse(namespace.as_bytes()).map_err(|rejection| match rejection {
            Rejection::Invalid(why) => Rejection::Invalid(format!("its namespace: {why}")),
            other => other,
        })?;
    }
    Pattern::parse(pattern)?;
    Ok(())
}

/// Who has the role may do what its new rules say from here on.
pub(crate) fn apply(scope: &mut Scope<'_>, put: &AccessRolePut) -> Result<Outcome, Failure> {
    put.check()?;
    let key = keys::access_role(scope.group, &put.name);
    if scope.txn.get(&key)?.is_none() {
        let roles = rows::access_meta(&scope.txn, scope.group)?.roles;
        at_most("roles", roles + 1, ACCESS_ROLES_MAX)?;
        count(scope, |meta| meta.roles += 1)?;
    }
    let row = AccessRoleRow { rules: put.rules.clone() };
    scope.txn.put(&key, &codec::encode(&row));
    changed(scope);
    Ok(Outcome::Done)
}
