//! References, values that change and values that go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn secrets() -> Secrets {
    Secrets::new(pairs(&[("A_KEY", "key-of-a-0001"), ("B_KEY", "key-of-b-0002"), ("EMPTY", " "), ("SHORT", "1")]))
}

fn resolved(secrets: &Secrets, template: &str) -> String {
    secrets.resolve(template).unwrap().expose_secret().to_owned()
}

#[test]
fn references_are_replaced_wherever_they_stand() {
    let resolved = |template| resolved(&secrets(), template);
    assert_eq!(resolved("${A_KEY}"), "key-of-a-0001");
    assert_eq!(resolved("Bearer ${A_KEY}:${B_KEY}!"), "Bearer key-of-a-0001:key-of-b-0002!");
    assert_eq!(resolved("plain, 5 $ and {x}"), "plain, 5 $ and {x}");
    assert_eq!(resolved("$${A_KEY} ${A_KEY}"), "${A_KEY} key-of-a-0001");
}

#[test]
fn every_missing_name_is_named_once_and_no_value_with_it() {
    let error = secrets().resolve("${Z} ${A_KEY} ${EMPTY} ${Z} ${file:/nowhere/at-all}").unwrap_err();
    assert_eq!(error.names, ["EMPTY", "Z", "file:/nowhere/at-all"]);
    assert!(!error.to_string().contains("key-of-a"));
}

#[test]
fn an_opening_without_an_end_is_reported() {
    assert_eq!(secrets().resolve("sk-${A_KEY").unwrap_err().names, ["${"]);
}

#[test]
fn a_file_is_read_without_its_last_line_break() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"from-a-file\r\n").unwrap();
    let name = format!("file:{}", file.path().display());
    let secrets = secrets();
    assert!(secrets.is_set(&name) && !secrets.is_set("file:/nowhere/at-all"));
    assert_eq!(secrets.files(), [Path::new("/nowhere/at-all"), file.path()].map(Path::to_owned));
    assert_eq!(resolved(&secrets, &format!("<${{{name}}}>")), "<from-a-file>");
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(secrets().resolve(&format!("${{file:{}}}", file.path().display())).is_err());
}

#[test]
fn debug_tells_nothing() {
    let secrets = secrets();
    let value = secrets.resolve("${A_KEY}").unwrap();
    for text in [format!("{secrets:?}"), format!("{:?}", secrets.redactor()), format!("{value:?}")] {
        assert!(!text.contains("key-of-a") && !text.contains("A_KEY"), "{text}");
    }
}

#[test]
fn what_was_resolved_is_masked_even_by_an_older_redactor() {
    let secrets = secrets();
    let redactor = secrets.redactor();
    assert_eq!(redactor.mask("key-of-a-0001"), "key-of-a-0001");
    let _ = secrets.clone().resolve("Bearer ${A_KEY}").unwrap();
    let _ = secrets.get("SHORT");
    assert_eq!(redactor.mask("got Bearer key-of-a-0001, key-of-a-0001."), "got ***, ***.");
    assert_eq!(redactor.mask("1 of 11"), "1 of 11");
}

#[test]
fn a_file_that_is_replaced_is_another_value_and_the_former_one_stays_masked() {
    let dir = tempfile::tempdir().unwrap();
    for (version, value) in [("..1", "value-number-1"), ("..2", "value-number-2")] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("key"), value).unwrap();
    }
    symlink("..1", dir.path().join("..data")).unwrap();
    symlink("..data/key", dir.path().join("key")).unwrap();
    let template = format!("${{file:{}}}", dir.path().join("key").display());
    let secrets = Secrets::default();
    assert_eq!(resolved(&secrets, &template), "value-number-1");
    assert_eq!((secrets.renew(), secrets.generation()), (vec![], 0), "nothing has changed");

    symlink("..2", dir.path().join("..next")).unwrap();
    fs::rename(dir.path().join("..next"), dir.path().join("..data")).unwrap();
    assert_eq!(resolved(&secrets, &template), "value-number-1", "a call reads no disk");
    assert_eq!((secrets.renew(), secrets.generation()), (vec![], 1));
    assert_eq!(resolved(&secrets, &template), "value-number-2");
    assert_eq!(secrets.redactor().mask("value-number-1 value-number-2"), "*** ***");
}

#[test]
fn a_file_that_goes_keeps_its_last_value_and_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let template = format!("${{file:{}}}", path.display());
    fs::write(&path, "the-last-value").unwrap();
    let secrets = Secrets::default();
    assert_eq!(resolved(&secrets, &template), "the-last-value");
    for (change, why) in [("", "is empty"), ("gone", "cannot be read: ")] {
        if change == "gone" {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, change).unwrap();
        }
        let gone = secrets.renew();
        assert_eq!(gone.iter().map(|gone| &gone.path).collect::<Vec<_>>(), [&path]);
        assert!(gone[0].why.starts_with(why) && gone[0].to_string().contains("its last value stays"), "{gone:?}");
        assert_eq!((resolved(&secrets, &template).as_str(), secrets.generation()), ("the-last-value", 0));
    }
    fs::write(&path, "a-newer-value").unwrap();
    assert_eq!((secrets.renew(), secrets.generation()), (vec![], 1));
    assert_eq!(resolved(&secrets, &template), "a-newer-value");
}

#[test]
fn variables_are_asked_for_again_at_their_origin() {
    let now = Arc::new(Mutex::new(pairs(&[("KEY", "the-first-one")])));
    let origin = now.clone();
    let secrets = Secrets::living(pairs(&[("KEY", "the-first-one")]), move |_| origin.lock().unwrap().clone());
    assert_eq!((secrets.renew(), secrets.generation()), (vec![], 0));
    assert!(!secrets.knows("KEY", "the-first-one"));
    assert_eq!(resolved(&secrets, "${KEY}"), "the-first-one");
    assert!(secrets.knows("KEY", "") && secrets.knows("OTHER", "the-first-one"));
    *now.lock().unwrap() = pairs(&[("KEY", "the-second-one")]);
    assert_eq!((secrets.renew(), secrets.generation()), (vec![], 1));
    assert_eq!(resolved(&secrets, "${KEY}"), "the-second-one");
}
