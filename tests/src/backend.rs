//! The back ends, and whether this machine can run them.

use crate::guest::Run;

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// KVM.
    Kvm,
    /// A traced process.
    Process,
}

/// Exit status for what a host lacks.
const HOST_LACKS: i32 = 124;

impl Backend {
    /// Every back end.
    pub const ALL: [Self; 2] = [Self::Kvm, Self::Process];

    /// Its name, as `--hypervisor` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }

    /// Why this machine cannot run guests on it. Whatever else goes wrong is for the tests to find.
    pub fn unusable(self) -> Option<String> {
        let finished = Run::new(self, "hello").finish();
        let says = |what: &str| finished.stderr.contains(what);
        let lacking = finished.status == HOST_LACKS;
        match self {
            Self::Kvm => {
                let refused = says("\"kvm\" is asked for")
                    || says("create the virtual machine")
                    || says("this host's KVM cannot run");
                (lacking && refused).then(|| "no usable /dev/kvm".to_owned())
            }
            Self::Process => {
                let refused = says("trace the guest's process") || says("fork the guest's process");
                (lacking && refused).then(|| "ptrace not permitted".to_owned())
            }
        }
    }

    /// A run of the probe with this argument string.
    pub fn probe(self, arguments: &str) -> Run {
        Run::new(self, denali_images::PROBE_PATH).option("--arg").option(arguments)
    }

    /// A run of the web server, published on a free port of 127.0.0.1.
    pub fn web(self) -> Run {
        Run::new(self, "web").option("--publish").option("0:80")
    }
}
