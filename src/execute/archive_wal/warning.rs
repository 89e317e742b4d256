//! Warnings in words.

use std::fmt;

use super::Warning;

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMagic(magic) => write!(
                formatter,
                "the segment has the page magic {magic:#06x}, of no PostgreSQL known here; its \
                 header was not checked further"
            ),
            Self::PartialDiffers {
                destination,
                first,
                aside,
            } => {
                write!(
                    formatter,
                    "`{first}` in `{destination}` holds other content and stays"
                )?;
                match aside {
                    Some(aside) => write!(formatter, "; this one was put aside as `{aside}`"),
                    None => Ok(()),
                }
            }
            Self::Unconditional(destination) => write!(
                formatter,
                "`{destination}` cannot refuse to overwrite; that nothing was there had to do"
            ),
            Self::Optional {
                destination,
                failure,
            } => write!(
                formatter,
                "`{destination}`, which is not required, lacks the file: {failure}"
            ),
            Self::Ahead { file, failure } => {
                write!(formatter, "archiving ahead stopped at {file}: {failure}")
            }
            Self::Spool(failure) => write!(formatter, "the spool cannot be used: {failure}"),
        }
    }
}
