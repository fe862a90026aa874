//! The last message of each topic.
