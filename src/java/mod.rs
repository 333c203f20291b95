//! Between a directory of a Java server and ours: what one becomes in the other.
//!
//! * [`load`]: the files of a Java server as a tree, sessions and epochs. * [`import`]: those as our first snapshot.
//! * [`export`]: our state as files that a Java server loads. * [`ours`]: our own directory as a state.
//! * [`convert`]: what their files say of a node, in the tree's types.
//! * [`JavaDirs`]: where a Java server keeps its data. * [`running`]: whether it runs now.
//! * [`seen`]: whether Java has run since its data became ours. * [`superseded`]: whether ours are missing.
//!
//! The bytes are `ringkeeper_storage::java`'s, the tree and its transactions are `core`'s; here they meet. Blocking: for the
//! start of a server and for tools. Spec: on-disk formats 10.

pub mod convert;
mod dirs;
pub mod export;
pub mod import;
pub mod load;
pub mod ours;
pub mod running;
pub mod seen;
pub mod superseded;

pub use dirs::JavaDirs;
pub use import::{ImportError, Imported};
pub use load::{LoadError, LoadOptions, Loaded, load};
