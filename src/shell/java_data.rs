//! What a start does about Java's data beside ours: takes them over where there are none of ours and there never were, and
//! otherwise makes sure that Java has not gone on with them. `version-2` is only read.

use std::time::Instant;

use ringkeeper_storage::java::DIRECTORY;
use ringkeeper_storage::{Opened, StoreConfig};
use tracing::{info, warn};

use crate::java::{
    JavaDirs,
    import::{self, ImportError},
};
use crate::java::{LoadOptions, seen, seen::Seen, superseded};
use crate::shell::settings::ServeError;

/// The store to start from. Blocks as long as it takes to read Java's data, once in the life of a directory.
pub fn take_over(opened: Opened, config: &StoreConfig) -> Result<Opened, ServeError> {
    let dirs = JavaDirs { data: config.data_dir.clone(), log: config.data_log_dir.clone() };
    if !opened.is_fresh() {
        if let Some(looks_now) = seen::check(&dirs, opened.report().last_zxid)? {
            seen::note(&dirs.data, &looks_now)?;
            superseded::note(&dirs.data, &looks_now)?;
        }
        return Ok(opened);
    }
    let refused = |source: ImportError| ServeError::Import { data: dirs.data.clone(), source: Box::new(source) };
    let mut java = dirs.open().map_err(|error| refused(error.into()))?;
    if java.is_empty() {
        seen::check_begun(&dirs)?;
        return Ok(opened);
    }
    if let Ok(now) = Seen::now(&mut java) {
        superseded::check(&dirs, &now)?;
    }
    let version_2 = dirs.data.join(DIRECTORY);
    info!("{}: data of a Java server, and none of ours: importing", version_2.display());
    let begun = Instant::now();
    let read = import::read(&dirs, &LoadOptions::default(), &mut |_| {}).map_err(refused)?;
    // The same of all that was read.
    superseded::check(&dirs, &read.1)?;
    let known = read.1.clone();
    let (opened, imported) = import::install(opened, config, read, begun).map_err(refused)?;
    superseded::note(&dirs.data, &known)?;
    for note in &imported.loaded.notes {
        warn!("{note}");
    }
    info!("imported {imported}; {} is left as it is", version_2.display());
    Ok(opened)
}
