//! MQTT 5.0 in rows.

use bifrust_conformance::suite::check;
use bifrust_conformance::v5;

#[test]
fn every_row_of_mqtt_5_0_holds() {
    check(&v5::rows());
}
