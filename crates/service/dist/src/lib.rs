//! Routes: which receivers a topic leads to.
