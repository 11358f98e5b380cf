//! The back ends of the hypervisor that are measured, and whether this machine has them.

use clap::ValueEnum;

/// What runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// KVM.
    Kvm,
    /// A traced process.
    Process,
}

impl Backend {
    /// All of them, the real one first.
    pub(crate) const ALL: [Self; 2] = [Self::Kvm, Self::Process];

    /// As `"hypervisor"` in a configuration has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }

    /// What people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Process => "process",
        }
    }

    /// What figures of this back end have at the end of their names.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Kvm => "",
            Self::Process => "_process",
        }
    }

    /// Why this back end cannot be measured here, if so.
    pub(crate) fn problem(self) -> Option<String> {
        match self {
            Self::Kvm => denali_launcher::open_kvm().err().map(|problem| problem.to_string()),
            Self::Process => None,
        }
    }
}
