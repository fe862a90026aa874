//! One ordered local key-value engine per node, in memory or on disk.
