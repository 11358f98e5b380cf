//! Where a supervisor listens if nobody says otherwise.

use std::ffi::OsString;
use std::path::PathBuf;

/// Variable of the environment that says where the supervisor listens.
pub const SOCKET_VARIABLE: &str = "DENALI_SOCKET";

/// The socket of the supervisor that this user is served by: what `$DENALI_SOCKET` names, else
/// `/run/denali/supervisor.sock` for the superuser and `$XDG_RUNTIME_DIR/denali/supervisor.sock` for others; `None`
/// if there is no such folder.
#[must_use]
pub fn usual_socket(superuser: bool) -> Option<PathBuf> {
    place(superuser, |name| std::env::var_os(name))
}

fn place(superuser: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    const NAME: &str = "denali/supervisor.sock";
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(SOCKET_VARIABLE).or_else(|| match superuser {
        // A service has no such variable, and a superuser's shell has: both are to find the same.
        true => Some(PathBuf::from("/run").join(NAME)),
        false => set("XDG_RUNTIME_DIR").map(|folder| folder.join(NAME)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_environment_says_where() {
        let both = |name: &str| {
            Some(if name == SOCKET_VARIABLE { "/a.sock" } else { "/run/user/7" }.into())
        };
        let runtime = |name: &str| both(name).filter(|_| name != SOCKET_VARIABLE);
        let empty = |name: &str| Some(if name == SOCKET_VARIABLE { "" } else { "/x" }.into());
        assert_eq!(place(false, both).as_deref(), Some(Path::new("/a.sock")));
        let of_user = Path::new("/run/user/7/denali/supervisor.sock");
        assert_eq!(place(false, runtime).as_deref(), Some(of_user));
        let of_host = Path::new("/run/denali/supervisor.sock");
        assert_eq!(place(true, runtime).as_deref(), Some(of_host));
        assert_eq!(place(false, empty).as_deref(), Some(Path::new("/x/denali/supervisor.sock")));
        assert_eq!(place(false, |_| None), None);
    }
}
