//! What the tests are made with: places, the program run with them, and servers.

mod place;
mod ran;
mod scene;

pub(crate) use self::{
    place::{Kind, Place},
    ran::Running,
    scene::{ROLE, Scene, archived, create_role, recovered, text},
};
