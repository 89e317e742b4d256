//! The bytes of an object, in the buffers that they were received in.

use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone)]
pub enum Content {
    Parts(Arc<[Arc<Vec<u8>>]>),
    Zeros(usize),
}

impl Content {
    pub fn of(bytes: Vec<u8>) -> Self {
        Self::Parts(Arc::from([Arc::new(bytes)]))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Self::Zeros(len) => *len,
        }
    }

    pub fn write(&self, range: Range<usize>, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Parts(parts) => {
                let mut begin = 0;
                for part in parts.iter() {
                    let from = range.start.clamp(begin, begin + part.len()) - begin;
                    let to = range.end.clamp(begin, begin + part.len()) - begin;
                    writer.write_all(&part[from..to])?;
                    begin += part.len();
                }
                Ok(())
            }
            Self::Zeros(_) => {
                let zeros = io::repeat(0).take(range.len() as u64);
                io::copy(&mut BufReader::with_capacity(1 << 16, zeros), writer).map(|_| ())
            }
        }
    }
}
