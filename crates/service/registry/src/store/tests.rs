use bifrust_kv::testing::Bed;

use super::*;

fn number(name: &str, tenants_max: u64) -> Command {
    Command::NumberTenant {
        name: TenantName::new(name).unwrap(),
        tenants_max,
    }
}

#[test]
fn a_name_gets_one_number_for_good() {
    let mut bed = Bed::new(Names);
    let ((first, effects), (second, more)) = bed.apply_twice(number("acme", 10));
    assert_eq!(first, Ok(TenantNumber(1)));
    assert_eq!(effects.len(), 1);
    assert_eq!(second, first);
    assert!(more.is_empty());
    assert_eq!(bed.apply(number("other", 10)).0, Ok(TenantNumber(2)));
    // Late.
    assert_eq!(bed.apply(number("acme", 10)).0, Ok(TenantNumber(1)));
}

#[test]
fn two_first_sights_in_one_batch_get_the_same_number() {
    let mut bed = Bed::new(Names);
    let (replies, effects) = bed.apply_batch([number("a", 9), number("a", 9), number("b", 9)]);
    let expected = [1, 1, 2].map(|n| Ok(TenantNumber(n)));
    assert_eq!(replies, expected);
    assert_eq!(effects.len(), 2);
}

#[test]
fn the_limit_refuses_new_names_only() {
    let mut bed = Bed::new(Names);
    bed.apply(number("a", 1)).0.unwrap();
    assert_eq!(bed.apply(number("b", 1)).0, Err(Refusal::Full));
    assert_eq!(bed.apply(number("a", 1)).0, Ok(TenantNumber(1)));
    assert_eq!(bed.apply(number("b", 2)).0, Ok(TenantNumber(2)));
}

#[test]
fn all_tenants_are_known_after_a_restart() {
    let mut bed = Bed::new(Names);
    for name in ["b", "a"] {
        bed.apply(number(name, 9)).0.unwrap();
    }
    let known = |name, number| Known {
        name: TenantName::new(name).unwrap(),
        number: TenantNumber(number),
    };
    assert_eq!(bed.reopen(), [known("a", 2), known("b", 1)]);
    assert_eq!(bed.apply(number("c", 9)).0, Ok(TenantNumber(3)));
}
