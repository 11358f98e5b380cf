//! How a disk is made of files.

/// How files are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// io_uring where the host has it, else plain calls.
    #[default]
    Auto,
    /// io_uring, or not at all.
    IoUring,
    /// Plain calls.
    Plain,
}

/// Which threads use a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Issuer {
    /// Only the one that makes it, which is cheaper.
    #[default]
    ThisThread,
    /// Any one at a time.
    AnyThread,
}

/// How a disk is made of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The files were opened with `O_DIRECT`.
    pub direct: bool,
    /// How they are read and written.
    pub method: Method,
    /// Who does.
    pub issuer: Issuer,
    /// What is read and written are whole pages in memory and on the disk, with which every disk is content:
    /// the host is not asked what each file wants.
    pub pages: bool,
    /// With several files: bytes that stay together in one of them, a power of two, at least 4,096.
    pub stripe_unit: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            direct: false,
            method: Method::Auto,
            issuer: Issuer::ThisThread,
            pages: false,
            stripe_unit: 64 << 10,
        }
    }
}
