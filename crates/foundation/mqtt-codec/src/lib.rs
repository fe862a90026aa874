//! MQTT packets to bytes and back, strict and without I/O.
