//! Answers that are one JSON object a line, which come while things happen.

use crate::error::Error;
use crate::http::Body;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};
use std::iter::FusedIterator;
use std::marker::PhantomData;

/// Longest line, in bytes.
const LINE_MAX: u64 = 4 << 20;

/// What a supervisor tells, one after the other; it ends after the first error.
#[derive(Debug)]
pub struct Lines<T> {
    /// `None` at the end.
    source: Option<BufReader<Body>>,
    line: Vec<u8>,
    what: PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(crate) fn new(body: Body) -> Self {
        Self { source: Some(BufReader::new(body)), line: Vec::new(), what: PhantomData }
    }

    /// The next line that is not empty; `None` at the end.
    fn read(source: &mut BufReader<Body>, line: &mut Vec<u8>) -> Result<Option<T>, Error> {
        loop {
            line.clear();
            let count = source.take(LINE_MAX + 1).read_until(b'\n', line)?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 > LINE_MAX {
                return Err(Error::Malformed(format!("a line has more than {LINE_MAX} bytes")));
            }
            if !line.trim_ascii().is_empty() {
                return parse(line).map(Some);
            }
        }
    }
}

/// What JSON says.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| {
        Error::Malformed(format!(
            "{error}; is the supervisor of another version than this program?"
        ))
    })
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let source = self.source.as_mut()?;
        let item = Self::read(source, &mut self.line).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.source = None;
        }
        item
    }
}

impl<T: DeserializeOwned> FusedIterator for Lines<T> {}
