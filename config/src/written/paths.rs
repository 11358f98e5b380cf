//! The paths of the host that a configuration names.

use super::{BlockBackendConfig, ConsoleBackendConfig, GuestConfig, KeyConfig, NetBackendConfig};

/// What is done with a path.
type Visit<'a> = dyn FnMut(&mut String) + 'a;

impl GuestConfig {
    /// Whether the image is a file; else it is a built-in one's name.
    pub(crate) fn image_is_path(&self) -> bool {
        self.image.contains('/') || self.image.ends_with(".elf")
    }

    /// Every path that it names, as it is written: of the image, if that is a file, of what devices are
    /// connected to, of the swap region and its key, and of the control socket.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.clone().paths_mut(&mut |path| paths.push(path.clone()));
        paths
    }

    /// Shows `visit` every path.
    pub(crate) fn paths_mut(&mut self, visit: &mut Visit<'_>) {
        if self.image_is_path() {
            visit(&mut self.image);
        }
        for net in &mut self.net {
            match &mut net.backend {
                NetBackendConfig::VhostUser(path) | NetBackendConfig::Socket(path) => visit(path),
                NetBackendConfig::User(_) | NetBackendConfig::Tap(_) => {}
            }
        }
        for block in &mut self.block {
            match &mut block.backend {
                BlockBackendConfig::File(file) => visit(&mut file.path),
                BlockBackendConfig::VhostUser(path) => visit(path),
            }
        }
        for console in &mut self.console {
            match &mut console.backend {
                ConsoleBackendConfig::Terminal => {}
                ConsoleBackendConfig::File(files) => {
                    files.input.iter_mut().chain(&mut files.output).for_each(&mut *visit);
                }
                ConsoleBackendConfig::Socket(path) => visit(path),
            }
        }
        if let Some(swap) = &mut self.swap {
            swap.stripes.iter_mut().for_each(&mut *visit);
            if let Some(KeyConfig::File(path)) = &mut swap.key {
                visit(path);
            }
        }
        self.control.iter_mut().for_each(visit);
    }
}
