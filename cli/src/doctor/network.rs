//! What guests reach the world by: the TUN device of the uplink, and namespaces.

use super::fleet::sysctl;
use super::root::{Root, User};
use super::{Finding, Verdict};
use std::fs::File;

/// The capability to make network devices, by its number.
const NET_ADMIN: u32 = 12;

/// Looks at it.
pub(super) fn look(root: &Root, user: User) -> Vec<Finding> {
    let mut findings = vec![tun(root, user)];
    findings.extend(["net", "user"].map(|kind| namespaces(root, kind)));
    findings
}

fn tun(root: &Root, user: User) -> Finding {
    const WHAT: &str = "/dev/net/tun";
    const LESS: &str = "the host reaches guests by published ports only, not by their addresses";
    if let Err(error) = File::options().read(true).write(true).open(root.path(WHAT)) {
        let text = format!("cannot be opened ({error}): {LESS}");
        return Finding::new(WHAT, Verdict::Warning, text).fix("sudo modprobe tun");
    }
    if !user.superuser && !has_net_admin(&root.text("/proc/self/status")) {
        let text = format!("this user may not make devices (CAP_NET_ADMIN): {LESS}");
        return Finding::new(WHAT, Verdict::Warning, text).fix(
            "AmbientCapabilities=CAP_NET_ADMIN in the supervisor's service, or a device made in advance: sudo ip \
             tuntap add denali0 mode tun user $USER",
        );
    }
    Finding::new(WHAT, Verdict::Good, "works")
}

fn has_net_admin(status: &str) -> bool {
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << NET_ADMIN) != 0)
}

fn namespaces(root: &Root, kind: &'static str) -> Finding {
    let what = format!("user.max_{kind}_namespaces");
    match root.number(format!("/proc/sys/user/max_{kind}_namespaces")) {
        Some(0) => {
            let text =
                "0: programs that serve guests cannot be shut off from the host by namespaces";
            let fix = sysctl(&what, 1024);
            Finding::new(what, Verdict::Warning, text).fix(fix)
        }
        Some(most) => Finding::new(what, Verdict::Good, format!("{most}; guests share one")),
        None => Finding::new(what, Verdict::Good, "this kernel does not say"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Host, assert_told};
    use super::*;

    const USER: User = User { superuser: false, descriptors: 0, processes: 0 };
    const ROOT: User = User { superuser: true, ..USER };

    #[test]
    fn what_is_missing_is_named_with_what_to_type() {
        let host = Host::new("network");
        host.file("/proc/sys/user/max_net_namespaces", "0\n");
        host.file("/proc/sys/user/max_user_namespaces", "95000\n");
        let findings = look(&host.root, ROOT);
        let warning = Verdict::Warning;
        assert_told(&findings, "/dev/net/tun", warning, "cannot be opened", "modprobe tun");
        let what = "user.max_net_namespaces";
        assert_told(&findings, what, warning, "0: ", "user.max_net_namespaces=1024");
        assert_told(&findings, "user.max_user_namespaces", Verdict::Good, "95000; ", "");

        host.file("/dev/net/tun", "");
        host.file("/proc/self/status", "Name:\tdenali\nCapEff:\t0000000000000800\n");
        assert_told(&look(&host.root, ROOT), "/dev/net/tun", Verdict::Good, "works", "");
        assert_told(
            &look(&host.root, USER),
            "/dev/net/tun",
            warning,
            "CAP_NET_ADMIN",
            "ip tuntap add",
        );
        host.file("/proc/self/status", "CapEff:\t0000000000001000\n");
        assert_told(&look(&host.root, USER), "/dev/net/tun", Verdict::Good, "works", "");
    }
}
