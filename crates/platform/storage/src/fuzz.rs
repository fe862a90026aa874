//! What must hold for any bytes: the checks of the fuzzer.

use crate::Manifest;
use crate::disk::whole_batches;

/// The manifest of a data folder.
pub fn check_manifest(text: &[u8]) {
    if let Ok(manifest) = Manifest::parse(text) {
        let again = serde_json::to_vec(&manifest).expect("a manifest can be written");
        assert_eq!(Manifest::parse(&again).expect("and read"), manifest);
    }
}

/// The tail of a journal: what is kept is a prefix, and all of it is kept the next time.
pub fn check_journal(journal: &[u8]) {
    let kept = whole_batches(journal).expect("memory can be read") as usize;
    let again = whole_batches(&journal[..kept]).expect("memory can be read");
    assert_eq!(again as usize, kept);
}
