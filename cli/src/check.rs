//! `denali check`: everything `denali run` would refuse before the guest starts, and what would run.

use crate::arguments::{CheckArguments, read};
use crate::findings::Findings;
use crate::output::{Failure, Format, print, print_json};
use crate::run::built_in;
use denali_abi::boot::{KIND_BLOCK, KIND_CONSOLE, KIND_ENTROPY, KIND_NET, kind_name};
use denali_abi::status;
use denali_arch::image::Image;
use denali_config::{Document, Guest, HypervisorChoice};
use denali_launcher::open_kvm;

/// Checks a configuration and its image, and says what would run. No port is opened.
pub(crate) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let document = arguments.changes.apply(read(&arguments.target)?)?;
    let guest = document.guest()?;
    let origin = document.origin("image");
    let bytes = denali_launcher::read_image(&guest.image, origin, &built_in())?;
    let image_name = image_name(&guest);
    let image = check_image(&bytes, &image_name, &guest, &document)?;
    let hypervisor = hypervisor(guest.hypervisor, document.origin("hypervisor"))?;
    let findings = Findings {
        guest: &guest,
        image: &image,
        image_name: &image_name,
        image_bytes: bytes.len(),
        hypervisor: &hypervisor,
    };
    match arguments.format.format() {
        Format::Human => print(&findings.table()),
        Format::Json => print_json(&findings.json()),
    }
}

/// What messages call the image.
fn image_name(guest: &Guest) -> String {
    match &guest.image {
        denali_config::Image::BuiltIn(name) => name.clone(),
        denali_config::Image::File(path) => path.display().to_string(),
    }
}

/// The image, if it can run with this guest's memory and devices; `place` is what messages call it.
fn check_image(
    bytes: &[u8],
    place: &str,
    guest: &Guest,
    document: &Document,
) -> Result<Image, Failure> {
    let image = Image::parse(bytes)
        .map_err(|error| Failure::new(status::BAD_IMAGE, format_args!("image {place}: {error}")))?;
    image.address_space(guest.memory_size).map_err(|error| {
        let origin = document.origin("memory");
        Failure::new(status::BAD_CONFIG, format_args!("{origin}: memory: image {place}: {error}"))
    })?;
    match image.missing_devices(&attached(guest)).first() {
        None => Ok(image),
        Some(device) => {
            let kind = kind_name(device.kind);
            let called = match device.name() {
                "" => String::new(),
                name => format!(" named {name:?}"),
            };
            Err(Failure::new(
                status::BAD_IMAGE,
                format_args!(
                    "image {place}: wants a {kind} device{called}; add one to {kind:?} in the \
                     configuration"
                ),
            ))
        }
    }
}

/// Kinds and names of the guest's devices.
fn attached(guest: &Guest) -> Vec<(u32, &str)> {
    let net = guest.net.iter().map(|net| (KIND_NET, net.name.as_str()));
    let block = guest.block.iter().map(|block| (KIND_BLOCK, block.name.as_str()));
    let console = guest.console.iter().map(|console| (KIND_CONSOLE, console.name.as_str()));
    let entropy = guest.entropy.iter().map(|entropy| (KIND_ENTROPY, entropy.name.as_str()));
    net.chain(block).chain(console).chain(entropy).collect()
}

/// What would run the guest.
fn hypervisor(choice: HypervisorChoice, origin: &str) -> Result<String, Failure> {
    let kvm = || open_kvm().map(drop);
    Ok(match choice {
        HypervisorChoice::Process => "process (no virtual machine boundary)".into(),
        HypervisorChoice::Auto => match kvm() {
            Ok(()) => "kvm".into(),
            Err(problem) => format!("process (no virtual machine boundary): {problem}"),
        },
        HypervisorChoice::Kvm => {
            kvm().map_err(|problem| {
                let message = format!("{origin}: hypervisor: \"kvm\" is asked for, but {problem}");
                Failure::new(status::HOST_LACKS, message)
            })?;
            "kvm".into()
        }
    })
}
