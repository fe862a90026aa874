//! What must hold for any bytes: the checks of the fuzzer.

use crate::{UserFile, tenant_of};

/// The text of a users file: what is read must be written and read again to the same.
pub fn check_users(text: &str) {
    let file = UserFile::new("users.toml");
    let Ok(users) = file.parse(text) else { return };
    let written = file.format(&users).expect("users can be written");
    assert_eq!(file.parse(&written).expect("and read"), users);
}

/// The user name of a CONNECT.
pub fn check_user_name(name: &str) {
    if let Some(found) = tenant_of(name, None) {
        let whole = format!("{}/{}", found.tenant, found.user);
        assert!(whole == name || found.user == name, "{name:?}: {found:?}");
    }
}
