//! Columns: rows of a frame of plain inserts, looked up by their place.
//!
//! Between two rows the columns stay where they are, so that rows asked for in ascending order cost one
//! pass over the frame together. A row before the last one begins anew.

use super::FrameReader;
use super::reader::{Place, ValueReader};
use crate::bytes::DecodeError;
use crate::value::ValueRef;

/// How far the columns of a frame that holds plain inserts by one template only have been read.
#[derive(Debug)]
pub(crate) struct Columns {
    places: Vec<Place>,
    next: usize,
    count: usize,
}

impl Columns {
    /// At the first row of a frame that claims to hold `count` changes.
    pub(crate) fn new(plain: &[u8], count: usize) -> Result<Self, DecodeError> {
        let (places, count) = FrameReader::new(plain, count)?.into_columns(plain);
        Ok(Self { places, next: 0, count })
    }

    /// The values of a row, one for each operation of the template. After an error, do not go on.
    pub(crate) fn row<'a>(
        &mut self,
        plain: &'a [u8],
        index: usize,
    ) -> Result<Vec<ValueRef<'a>>, DecodeError> {
        if index >= self.count {
            return Err(DecodeError::UnexpectedEnd);
        }
        if index < self.next {
            *self = Self::new(plain, self.count)?;
        }
        let between = (index - self.next) as u64;
        self.next = index + 1;
        let value = |place: &mut Place| {
            let mut values = ValueReader::at(place, plain);
            values.skip(between)?;
            let value = values.next_value()?;
            *place = values.place(plain);
            Ok(value)
        };
        self.places.iter_mut().map(value).collect()
    }
}
