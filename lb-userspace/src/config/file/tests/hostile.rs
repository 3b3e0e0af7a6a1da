//! Whatever a file has in it.

use proptest::prelude::*;

use super::*;

#[test]
fn fifty_thousand_backends_are_no_attack() {
    let mut text = String::from("services:\n");
    for service in 0..49 {
        text +=
            &format!("- name: s{service}\n  vips: [10.0.{service}.1]\n  port: 6443\n  backends:\n");
        for backend in 0..1024 {
            let (high, low) = (backend / 250, backend % 250 + 1);
            text += &format!("  - {{ name: b{backend}, address: 10.1.{high}.{low} }}\n");
        }
    }
    assert!(parsed(&text).services.iter().all(|service| service.backends.len() == 1024));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text, Path::new("f"));
    }

    #[test]
    fn no_text_like_yaml_panics(text in "[a-c0-9:{}\\[\\]&*!|>'\"#%@, \n\t-]{0,120}") {
        let _ = parse(&text, Path::new("f"));
    }

    #[test]
    fn no_change_of_the_example_panics(at in 0..EXAMPLE.len(), piece in "[ -~\n\t]{0,8}") {
        let at = (at..).find(|at| EXAMPLE.is_char_boundary(*at)).unwrap();
        let _ = parse(&format!("{}{piece}{}", &EXAMPLE[..at], &EXAMPLE[at..]), Path::new("f"));
        let _ = parse(&EXAMPLE[..at], Path::new("f"));
    }

    #[test]
    fn every_problem_has_a_place(piece in "[a-z0-9:/. -]{0,12}") {
        if let Err(error) = parse(&format!("{MINIMAL}    mode: {piece}\n"), Path::new("f")) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(error.problems().iter().all(|it| it.line > 0 && it.column > 0));
        }
    }
}
