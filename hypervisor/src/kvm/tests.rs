//! The common tests on KVM, where there is one.

use super::KvmVm;
use crate::conformance::{Backend, conformance_tests, saving};
use crate::{Backing, Error, GuestRam, Vm, process};
use std::fs::File;
use std::io;
use std::rc::Rc;

conformance_tests!(backend(Backing::Private), #[cfg_attr(no_kvm, ignore = "no usable /dev/kvm")]);

/// The same with memory that other processes can map.
mod exported {
    use super::{Backing, backend, conformance_tests};

    conformance_tests!(
        backend(Backing::Exported),
        #[cfg_attr(no_kvm, ignore = "no usable /dev/kvm")]
    );
}

/// KVM, if this machine has one that this user may use.
fn backend(backing: Backing) -> Option<Backend> {
    open().ok().map(|_| Backend { backing, make })
}

fn open() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/kvm")
}

fn make(ram: Rc<GuestRam>) -> Result<Box<dyn Vm>, Error> {
    let device = open().map_err(Error::host("open /dev/kvm"))?;
    Ok(Box::new(KvmVm::new(device.into(), ram)?))
}

#[test]
#[cfg_attr(no_kvm, ignore = "no usable /dev/kvm")]
fn a_guest_moves_between_back_ends() {
    if let Some(kvm) = backend(Backing::Private) {
        saving::between(&kvm, &process::tests::BACKEND);
        saving::between(&process::tests::BACKEND, &kvm);
    }
}
