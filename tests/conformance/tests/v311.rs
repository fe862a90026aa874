//! MQTT 3.1.1 in rows.

use bifrust_conformance::suite::check;
use bifrust_conformance::v311;

#[test]
fn every_row_of_mqtt_3_1_1_holds() {
    check(&v311::rows());
}
