//! SHA-256 of images: what tells them apart, wherever they come from.

use denali_swap::hex;
use ring::digest::{Context, SHA256, digest};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// The SHA-256 of an image, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ImageHash(pub [u8; 32]);

impl ImageHash {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    /// That of all bytes of a file, wherever its position is.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        let mut position = 0;
        loop {
            match file.read_at(&mut piece, position) {
                Ok(0) => break,
                Ok(count) => {
                    context.update(&piece[..count]);
                    position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Ok(Self(hash))
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for ImageHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = hex::decode(text).map(Self);
        hash.ok_or_else(|| "the hash of an image is 64 hexadecimal digits".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_hash_of_its_bytes() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(ImageHash::of_file(file.as_file()).unwrap(), ImageHash::of(&bytes));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(ImageHash::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(ImageHash::of(b"")));
        for wrong in ["", &empty[1..], &format!("{}+0", &empty[2..])] {
            assert!(wrong.parse::<ImageHash>().is_err(), "{wrong}");
        }
    }
}
