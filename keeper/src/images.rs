//! The images of guests, each open once.

use denali_config::Image;
use denali_launcher::{ImageHash, ImageStore, LaunchError, SealedImage};
use std::path::Path;
use std::rc::Rc;

/// Where images are kept in the folder of a keeper's state.
const FOLDER: &str = "images";

/// The images of all guests, and the store of those that a keeper finds again.
pub(crate) struct Images<'a> {
    built_in: &'a [(&'a str, &'a [u8])],
    store: Option<ImageStore>,
    named: Vec<(Image, Rc<SealedImage>)>,
    stored: Vec<(ImageHash, Rc<SealedImage>)>,
}

impl<'a> Images<'a> {
    /// Images that are kept for good if there is a folder for a keeper's state.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub(crate) fn new(
        built_in: &'a [(&'a str, &'a [u8])],
        state: Option<&Path>,
    ) -> Result<Self, LaunchError> {
        let store = state.map(|state| ImageStore::open(&state.join(FOLDER))).transpose()?;
        Ok(Self { built_in, store, named: Vec::new(), stored: Vec::new() })
    }

    /// The image that a configuration names; `origin` is the configuration in messages.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub(crate) fn open(
        &mut self,
        image: &Image,
        origin: &str,
    ) -> Result<Rc<SealedImage>, LaunchError> {
        if let Some((_, open)) = self.named.iter().find(|(known, _)| known == image) {
            return Ok(open.clone());
        }
        let opened = Rc::new(match &self.store {
            Some(store) => SealedImage::stored(image, origin, self.built_in, store)?,
            None => SealedImage::new(image, origin, self.built_in)?,
        });
        self.named.push((image.clone(), opened.clone()));
        Ok(opened)
    }

    /// Where images are kept, if they are.
    pub(crate) fn store(&self) -> Option<&ImageStore> {
        self.store.as_ref()
    }

    /// An image that was kept, called `name` in messages.
    ///
    /// # Errors
    /// When it is there no more, or was changed.
    pub(crate) fn find(&mut self, hash: &str, name: &str) -> Result<Rc<SealedImage>, LaunchError> {
        let known = hash.parse::<ImageHash>().ok().zip(self.store.as_ref());
        let Some((hash, store)) = known else {
            return Err(LaunchError::Image(format!("image {name}: {hash:?} is no SHA-256")));
        };
        if let Some((_, open)) = self.stored.iter().find(|(known, _)| *known == hash) {
            return Ok(open.clone());
        }
        let opened = Rc::new(SealedImage::from_store(store, hash, name)?);
        self.stored.push((hash, opened.clone()));
        Ok(opened)
    }
}
