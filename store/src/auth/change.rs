//! How users, roles and permissions change.

use kontiki_proto::authpb;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1::auth_change::Change;

use super::permit::Interval;
use super::{Auth, Caller, ROOT, User};
use crate::error::Error;

impl Auth {
    /// Makes a change on behalf of a caller. A change that is refused changes nothing.
    pub fn change(&mut self, caller: &Caller, change: &Change) -> Result<(), Error> {
        if !matches!(change, Change::Token(_)) {
            self.admin(caller)?;
        }
        let counted = match change {
            Change::Enable(_) => self.enable().map(|()| false),
            Change::Disable(_) => Ok(std::mem::take(&mut self.enabled)),
            Change::UserAdd(request) => self.user_add(request).map(|()| true),
            Change::UserDelete(request) => self.user_delete(&request.name).map(|()| true),
            Change::UserChangePassword(request) => self.change_password(request).map(|()| true),
            Change::UserGrantRole(request) => self.grant_role(&request.user, &request.role),
            Change::UserRevokeRole(request) => self.revoke_role(&request.name, &request.role).map(|()| true),
            Change::RoleAdd(request) => self.role_add(&request.name).map(|()| true),
            Change::RoleDelete(request) => self.role_delete(&request.role).map(|()| true),
            Change::RoleGrant(request) => self.grant(request).map(|()| true),
            Change::RoleRevoke(request) => self.revoke(request).map(|()| true),
            // Tokens are no part of the permissions.
            Change::Token(_) => Ok(false),
        }?;
        self.revision += u64::from(counted);
        Ok(())
    }

    fn enable(&mut self) -> Result<(), Error> {
        let root = self.users.get(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.roles.contains(ROOT) {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(())
    }

    fn user_add(&mut self, request: &pb::AuthUserAddRequest) -> Result<(), Error> {
        if request.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(Error::UserAlreadyExist);
        }
        let no_password = request.options.is_some_and(|options| options.no_password);
        let user = User { password: request.hashed_password.clone(), no_password, ..User::default() };
        self.users.insert(request.name.clone(), user);
        Ok(())
    }

    fn user_delete(&mut self, name: &str) -> Result<(), Error> {
        if self.enabled && name == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.users.remove(name).map(drop).ok_or(Error::UserNotFound)
    }

    fn change_password(&mut self, request: &pb::AuthUserChangePasswordRequest) -> Result<(), Error> {
        let user = self.users.get_mut(&request.name).ok_or(Error::UserNotFound)?;
        request.hashed_password.clone_into(&mut user.password);
        Ok(())
    }

    fn grant_role(&mut self, name: &str, role: &str) -> Result<bool, Error> {
        let known = role == ROOT || self.roles.contains_key(role);
        let user = self.users.get_mut(name).ok_or(Error::UserNotFound)?;
        if !known {
            return Err(Error::RoleNotFound);
        }
        Ok(user.roles.insert(role.to_owned()))
    }

    fn revoke_role(&mut self, name: &str, role: &str) -> Result<(), Error> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        let user = self.users.get_mut(name).ok_or(Error::UserNotFound)?;
        if user.roles.remove(role) { Ok(()) } else { Err(Error::RoleNotGranted) }
    }

    fn role_add(&mut self, name: &str) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Error::RoleAlreadyExist);
        }
        self.roles.insert(name.to_owned(), vec![]);
        Ok(())
    }

    fn role_delete(&mut self, name: &str) -> Result<(), Error> {
        if self.enabled && name == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(Error::RoleNotFound)?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        Ok(())
    }

    fn grant(&mut self, request: &pb::AuthRoleGrantPermissionRequest) -> Result<(), Error> {
        let permission = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
        if !Interval::is_sound(&permission.key, &permission.range_end) {
            return Err(Error::InvalidAuthManagement);
        }
        let permissions = self.roles.get_mut(&request.name).ok_or(Error::RoleNotFound)?;
        permissions.retain(|held| !same(held, &permission.key, &permission.range_end));
        permissions.push(permission.clone());
        permissions.sort_by(|left, right| (&left.key, &left.range_end).cmp(&(&right.key, &right.range_end)));
        Ok(())
    }

    fn revoke(&mut self, request: &pb::AuthRoleRevokePermissionRequest) -> Result<(), Error> {
        let permissions = self.roles.get_mut(&request.role).ok_or(Error::RoleNotFound)?;
        let before = permissions.len();
        permissions.retain(|held| !same(held, &request.key, &request.range_end));
        if permissions.len() == before { Err(Error::PermissionNotGranted) } else { Ok(()) }
    }
}

fn same(held: &authpb::Permission, key: &[u8], range_end: &[u8]) -> bool {
    held.key == key && held.range_end == range_end
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn user_add(name: &str) -> Change {
        Change::UserAdd(pb::AuthUserAddRequest { name: name.into(), hashed_password: "h".into(), ..Default::default() })
    }

    fn grant_role(user: &str, role: &str) -> Change {
        Change::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
    }

    fn role_add(name: &str) -> Change {
        Change::RoleAdd(pb::AuthRoleAddRequest { name: name.into() })
    }

    fn check(auth: &mut Auth, change: &Change, expected: Result<(), Error>) {
        let before = auth.clone();
        assert_eq!(auth.change(&Caller::Trusted, change), expected, "{change:?}");
        assert!(expected.is_ok() || before == *auth, "what is refused changes nothing");
    }

    #[test]
    fn changes_obey_etcds_rules() {
        let mut auth = Auth::default();
        let enable = Change::Enable(pb::AuthEnableRequest {});
        check(&mut auth, &enable, Err(Error::RootUserNotExist));
        check(&mut auth, &user_add(ROOT), Ok(()));
        check(&mut auth, &user_add(ROOT), Err(Error::UserAlreadyExist));
        check(&mut auth, &user_add(""), Err(Error::UserEmpty));
        check(&mut auth, &enable, Err(Error::RootRoleNotExist));
        check(&mut auth, &grant_role(ROOT, ROOT), Ok(()));
        check(&mut auth, &grant_role("nobody", ROOT), Err(Error::UserNotFound));
        check(&mut auth, &grant_role(ROOT, "none"), Err(Error::RoleNotFound));
        check(&mut auth, &role_add("r"), Ok(()));
        check(&mut auth, &role_add("r"), Err(Error::RoleAlreadyExist));
        check(&mut auth, &role_add(""), Err(Error::RoleEmpty));
        check(&mut auth, &enable, Ok(()));
        let drop_root = Change::UserDelete(pb::AuthUserDeleteRequest { name: ROOT.into() });
        check(&mut auth, &drop_root, Err(Error::InvalidAuthManagement));
        let revoke = Change::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: ROOT.into(), role: ROOT.into() });
        check(&mut auth, &revoke, Err(Error::InvalidAuthManagement));
        check(&mut auth, &grant_role(ROOT, "r"), Ok(()));
        let gone = Change::RoleDelete(pb::AuthRoleDeleteRequest { role: "r".into() });
        check(&mut auth, &gone, Ok(()));
        assert!(!auth.users[ROOT].roles.contains("r"), "a role goes from its users too");
        assert_eq!(Auth::decode(&auth.encode()).unwrap(), auth);
    }

    #[test]
    fn permissions_are_replaced_and_taken_back() {
        let mut auth = Auth::default();
        check(&mut auth, &role_add("r"), Ok(()));
        let grant = |key: &'static str, end: &'static str, kind| {
            let perm = authpb::Permission { perm_type: kind, key: key.into(), range_end: end.into() };
            Change::RoleGrant(pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) })
        };
        check(&mut auth, &grant("b", "c", 0), Ok(()));
        check(&mut auth, &grant("a", "", 1), Ok(()));
        check(&mut auth, &grant("b", "c", 2), Ok(()));
        check(&mut auth, &grant("c", "b", 2), Err(Error::InvalidAuthManagement));
        check(&mut auth, &Change::RoleGrant(Default::default()), Err(Error::PermissionNotGiven));
        let kinds: Vec<_> = auth.roles["r"].iter().map(|permission| permission.perm_type).collect();
        assert_eq!(kinds, [1, 2]);
        let revoke = |key: &'static str| {
            let request = pb::AuthRoleRevokePermissionRequest { role: "r".into(), key: key.into(), range_end: "".into() };
            Change::RoleRevoke(request)
        };
        check(&mut auth, &revoke("a"), Ok(()));
        check(&mut auth, &revoke("a"), Err(Error::PermissionNotGranted));
    }

    #[test]
    fn only_root_changes_anything_once_it_is_enabled() {
        let mut auth = Auth::default();
        for change in [user_add(ROOT), grant_role(ROOT, ROOT), user_add("u"), Change::Enable(Default::default())] {
            check(&mut auth, &change, Ok(()));
        }
        let revision = auth.revision;
        let user = |name: &str, revision| Caller::User { name: name.into(), revision: Some(revision) };
        assert_eq!(auth.change(&Caller::Anonymous, &role_add("r")), Err(Error::UserEmpty));
        assert_eq!(auth.change(&user("u", revision), &role_add("r")), Err(Error::PermissionDenied));
        assert_eq!(auth.change(&user("x", revision), &role_add("r")), Err(Error::PermissionDenied));
        assert_eq!(auth.change(&user(ROOT, revision), &role_add("r")), Ok(()));
        assert_eq!(auth.change(&user(ROOT, revision), &role_add("s")), Err(Error::AuthOldRevision));
    }
}
