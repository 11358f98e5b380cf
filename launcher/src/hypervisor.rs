//! The choice of what runs the guest: KVM where it works, else a traced process.

use crate::error::LaunchError;
use denali_config::HypervisorChoice;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Where KVM is.
const KVM_DEVICE: &str = "/dev/kvm";

/// The one version KVM has ever had since it became stable.
const KVM_API_VERSION: i32 = 12;

/// The request KVM_GET_API_VERSION: number 0 of type 0xAE, without data.
const KVM_GET_API_VERSION: libc::Ioctl = 0xAE00;

/// Why KVM cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmProblem {
    /// There is no `/dev/kvm`.
    Missing,
    /// This user may not open it.
    Denied,
    /// It is there but does not work, for this reason.
    Unusable(String),
}

impl fmt::Display for KvmProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "{KVM_DEVICE} does not exist on this host"),
            Self::Denied => write!(
                f,
                "{KVM_DEVICE} may not be opened by this user (add yourself to group kvm: \
                 sudo usermod -aG kvm $USER, and log in again)"
            ),
            Self::Unusable(why) => write!(f, "{KVM_DEVICE} does not work ({why})"),
        }
    }
}

/// Opens `/dev/kvm` and checks that it is KVM.
pub fn open_kvm() -> Result<OwnedFd, KvmProblem> {
    open_kvm_at(Path::new(KVM_DEVICE))
}

fn open_kvm_at(path: &Path) -> Result<OwnedFd, KvmProblem> {
    let device =
        match open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()) {
            Ok(device) => device,
            Err(Errno::ENOENT) => return Err(KvmProblem::Missing),
            Err(Errno::EACCES | Errno::EPERM) => return Err(KvmProblem::Denied),
            Err(error) => return Err(KvmProblem::Unusable(error.desc().into())),
        };
    // KVM insists on an argument of 0.
    const NO_ARGUMENT: libc::c_ulong = 0;
    // SAFETY: KVM_GET_API_VERSION touches no memory of ours; on a descriptor that is not KVM's the
    // number is unknown, or means something without data, as its encoding says.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, NO_ARGUMENT) };
    match Errno::result(answer) {
        Ok(KVM_API_VERSION) => Ok(device),
        Ok(version) => {
            Err(KvmProblem::Unusable(format!("its version is {version}, not {KVM_API_VERSION}")))
        }
        Err(error) => Err(KvmProblem::Unusable(format!("it does not answer: {}", error.desc()))),
    }
}

/// Whether KVM keeps page tables of its own for each guest because the processor, or the machine that this host
/// is itself, has no nested paging.
pub(crate) fn kvm_shadows_page_tables() -> bool {
    shadows_in(Path::new("/sys/module"))
}

fn shadows_in(modules: &Path) -> bool {
    let is_off = |parameter: &str| {
        let value = std::fs::read_to_string(modules.join(parameter)).unwrap_or_default();
        matches!(value.trim(), "N" | "0")
    };
    modules.join("kvm_pvm").exists()
        || is_off("kvm_intel/parameters/ept")
        || is_off("kvm_amd/parameters/npt")
}

/// What runs the guest.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// KVM, through this descriptor.
    Kvm(OwnedFd),
    /// A traced process; with the reason where KVM was to be preferred.
    Process(Option<KvmProblem>),
}

/// Chooses; `origin` is what messages call the place where the choice was written.
pub(crate) fn choose(choice: HypervisorChoice, origin: &str) -> Result<Chosen, LaunchError> {
    decide(choice, origin, open_kvm)
}

fn decide(
    choice: HypervisorChoice,
    origin: &str,
    open_kvm: impl Fn() -> Result<OwnedFd, KvmProblem>,
) -> Result<Chosen, LaunchError> {
    match choice {
        HypervisorChoice::Process => Ok(Chosen::Process(None)),
        HypervisorChoice::Auto => {
            Ok(open_kvm().map_or_else(|problem| Chosen::Process(Some(problem)), Chosen::Kvm))
        }
        HypervisorChoice::Kvm => open_kvm().map(Chosen::Kvm).map_err(|problem| {
            LaunchError::Host(format!(
                "{origin}: hypervisor: \"kvm\" is asked for, but {problem}; \"auto\" or \"process\" \
                 run without it"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_the_device_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open_kvm_at(&folder.path().join("kvm")).unwrap_err();
        assert_eq!(missing, KvmProblem::Missing);
        let other = open_kvm_at(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(&other, KvmProblem::Unusable(why) if why.contains("does not answer")));
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(open_kvm_at(&file), Err(KvmProblem::Unusable(_))));
        assert!(KvmProblem::Denied.to_string().contains("group kvm"));
    }

    #[test]
    fn modules_tell_whether_page_tables_are_shadowed() {
        let modules = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| {
            let path = modules.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        };
        let shadows = || shadows_in(modules.path());
        assert!(!shadows());
        write("kvm_intel/parameters/ept", "Y\n");
        write("kvm_amd/parameters/npt", "1\n");
        assert!(!shadows());
        write("kvm_intel/parameters/ept", "N\n");
        assert!(shadows());
        write("kvm_intel/parameters/ept", "Y\n");
        write("kvm_amd/parameters/npt", "0\n");
        assert!(shadows());
        write("kvm_amd/parameters/npt", "Y\n");
        write("kvm_pvm/refcnt", "1\n");
        assert!(shadows());
    }

    #[test]
    fn a_device_that_can_be_opened_answers() {
        match open_kvm() {
            Ok(_) => {}
            Err(KvmProblem::Unusable(why)) if why.contains("answer") => panic!("{why}"),
            Err(problem) => println!("skipped: no usable /dev/kvm: {problem}"),
        }
    }

    #[test]
    fn kvm_is_insisted_on_only_when_asked_for() {
        let broken = || Err(KvmProblem::Missing);
        let error = decide(HypervisorChoice::Kvm, "vm.json", broken).unwrap_err();
        assert_eq!(error.status(), denali_abi::status::HOST_LACKS);
        assert!(error.to_string().starts_with("vm.json: hypervisor: \"kvm\" is asked for, but "));
        let fallback = decide(HypervisorChoice::Auto, "vm.json", broken).unwrap();
        assert!(matches!(fallback, Chosen::Process(Some(KvmProblem::Missing))));
        let process = decide(HypervisorChoice::Process, "vm.json", broken).unwrap();
        assert!(matches!(process, Chosen::Process(None)));
    }

    #[test]
    fn a_working_device_is_taken() {
        let device = || Ok(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        for choice in [HypervisorChoice::Auto, HypervisorChoice::Kvm] {
            assert!(matches!(decide(choice, "vm.json", device), Ok(Chosen::Kvm(_))));
        }
    }
}
