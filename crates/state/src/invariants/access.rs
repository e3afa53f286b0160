//! What holds of access tokens, roles and subjects.

use super::broken;
use crate::keys::{self, AccessHolder, Clock, DeadlineKind, Key};
use crate::limits::{ACCESS_ROLES_MAX, ACCESS_SUBJECTS_MAX, ACCESS_TOKENS_MAX, TOKEN_HASH_BYTES};
use crate::rows::{self, AccessMetaRow, AccessRoleRow, AccessSubjectRow, AccessTokenRow};
use crate::{ACCESS_ROLE_ADMIN, Fatal, GroupId};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Access {
    meta: AccessMetaRow,
    counted: AccessMetaRow,
    roles: BTreeSet<String>,
    /// Roles that somebody has.
    had: BTreeSet<String>,
    /// Rows that ACCESS_HOLDER should have, and has.
    holders_due: BTreeSet<Vec<u8>>,
    holders: BTreeSet<Vec<u8>>,
}

impl Access {
    pub(super) fn row(
        &mut self,
        group: GroupId,
        key: &[u8],
        parsed: Key<'_>,
        value: &[u8],
        deadlines_due: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), Fatal> {
        match parsed {
            Key::AccessMeta => self.meta = rows::decode("access meta row", value)?,
            Key::AccessToken(id) => {
                let row: AccessTokenRow = rows::decode("access token row", value)?;
                let ordered = row.expires_wall_ms.is_none_or(|at_ms| at_ms > row.created_wall_ms);
                if row.hash.len() != TOKEN_HASH_BYTES || !ordered {
                    return broken(format!("access token {id} has the row {row:?}"));
                }
                if let Some(at_ms) = row.expires_wall_ms {
                    let kind = DeadlineKind::AccessToken;
                    deadlines_due.insert(keys::deadline(group, Clock::Wall, at_ms, kind, key));
                }
                self.counted.tokens += 1;
                self.held(group, AccessHolder::Token(id), &row.roles)?;
            }
            Key::AccessRole(name) => {
                let _: AccessRoleRow = rows::decode("access role row", value)?;
                if name.is_empty() || name == ACCESS_ROLE_ADMIN {
                    return broken(format!("the role {name:?} has a row"));
                }
                self.counted.roles += 1;
                self.roles.insert(name.to_owned());
            }
            Key::AccessSubject(subject) => {
                let row: AccessSubjectRow = rows::decode("access subject row", value)?;
                if subject.is_empty() {
                    return broken("the empty subject has a row".to_owned());
                }
                self.counted.subjects += 1;
                self.held(group, AccessHolder::Subject(subject), &row.roles)?;
            }
            Key::AccessHolder { .. } => {
                self.holders.insert(key.to_vec());
                if !value.is_empty() {
                    return broken(format!("the holder {key:02x?} has a value"));
                }
            }
            other => return broken(format!("{other:?} is not about who may do what")),
        }
        Ok(())
    }

    fn held(
        &mut self,
        group: GroupId,
        holder: AccessHolder<'_>,
        roles: &[String],
    ) -> Result<(), Fatal> {
        for role in roles {
            // A longer one would not fit in a key, and is no role's.
            let fits = u8::try_from(role.len()).is_ok();
            if !fits || !self.holders_due.insert(keys::access_holder(group, role, holder)) {
                return broken(format!("{holder:?} has the roles {roles:?}"));
            }
            self.had.insert(role.clone());
        }
        Ok(())
    }

    pub(super) fn whole(&self) -> Result<(), Fatal> {
        let Self { meta, counted, .. } = self;
        if meta != counted {
            return broken(format!("{meta:?} counted, {counted:?} there"));
        }
        let within = counted.tokens <= ACCESS_TOKENS_MAX
            && counted.roles <= ACCESS_ROLES_MAX
            && counted.subjects <= ACCESS_SUBJECTS_MAX;
        if !within {
            return broken(format!("{counted:?} are more than there may be"));
        }
        let missing =
            self.had.iter().find(|role| *role != ACCESS_ROLE_ADMIN && !self.roles.contains(*role));
        if let Some(role) = missing {
            return broken(format!("somebody has the role {role:?}, which is not there"));
        }
        match self.holders.symmetric_difference(&self.holders_due).next() {
            Some(key) => broken(format!("ACCESS_HOLDER and what is had differ in {key:02x?}")),
            None => Ok(()),
        }
    }
}
