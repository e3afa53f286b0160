//! Precedence, bad input, and the example file.

use super::*;

fn variables(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    list.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("quorate.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn flags(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    list.iter().map(|(name, text)| (*name, (*text).to_owned())).collect()
}

fn from_flags(list: &[(&'static str, &str)]) -> Result<Config, String> {
    Config::load(&flags(list), [], None).map_err(|error| error.to_string())
}

fn from_variables(list: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&[], variables(list), None).map_err(|error| error.to_string())
}

fn from_file(text: &str) -> Result<Config, String> {
    let (_dir, path) = file(text);
    Config::load(&[], [], Some(&path)).map_err(|error| error.to_string())
}

fn origin<'a>(config: &'a Config, name: &str) -> &'a Origin {
    &config.effective.iter().find(|(own, _)| *own == name).unwrap().1.origin
}

#[test]
fn without_a_word_it_is_one_node_on_loopback() {
    let config = from_flags(&[]).unwrap();
    assert_eq!(config.node_id, NodeId(1));
    assert_eq!(config.data_dir, PathBuf::from("./quorate-data"));
    assert_eq!(config.client_listen.to_string(), "127.0.0.1:8811");
    assert_eq!(config.initial_cluster.len(), 1);
    assert_eq!(config.initial_cluster[&NodeId(1)].to_string(), "127.0.0.1:8812");
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = from_flags(&[]).unwrap();
    let timing = quorate_consensus::Timing::default();
    assert_eq!(config.raft.heartbeat_ms, timing.heartbeat_ms);
    assert_eq!(config.raft.election_timeout_min_ms, timing.election_timeout_min_ms);
    assert_eq!(config.raft.election_timeout_max_ms, timing.election_timeout_max_ms);
    let rule = quorate_consensus::SnapshotRule::default();
    assert_eq!(config.snapshots.log_bytes, rule.log_bytes);
    assert_eq!(config.snapshots.keep_entries, rule.keep_entries);
    assert_eq!(u128::from(config.snapshots.every_ms), rule.every.as_millis());
    assert_eq!(config.snapshots.send_bytes_per_second, rule.send_bytes_per_second);
    assert_eq!(config.per_caller, CallerLimits::default());
    assert_eq!(config.message_timeout, crate::limits::MESSAGE_TIMEOUT);
    let tuning = quorate_storage::Tuning::default();
    assert_eq!(config.storage.log_memtable_bytes, tuning.log_memtable_bytes);
    assert_eq!(config.storage.state_memtable_bytes, tuning.state_memtable_bytes);
    assert_eq!(config.storage.block_cache_bytes, tuning.block_cache_bytes);
    assert_eq!(config.storage.tail_cache_bytes, tuning.tail_cache_bytes);
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let (_dir, path) =
        file("node_id = 2\nhttp_listen = '127.0.0.1:2'\nclient_listen = '127.0.0.1:2'\n");
    let environment =
        [("QUORATE_NODE_ID", "3"), ("QUORATE_HTTP_LISTEN", "127.0.0.1:3"), ("PATH", "/bin")];
    let config =
        Config::load(&flags(&[("node_id", "4")]), variables(&environment), Some(&path)).unwrap();
    assert_eq!(config.node_id, NodeId(4));
    assert_eq!(config.http_listen.port, 3);
    assert_eq!(config.client_listen.port, 2);
    assert_eq!(config.peer_listen.port, 8812);
    assert_eq!(origin(&config, "node_id"), &Origin::Flag("node-id".into()));
    assert_eq!(origin(&config, "http_listen"), &Origin::Variable("QUORATE_HTTP_LISTEN".into()));
    assert_eq!(origin(&config, "client_listen"), &Origin::File(path, 3));
    assert_eq!(origin(&config, "peer_listen"), &Origin::Default);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
    let error = from_file("node_id = 1\n\nnode_idd = 2\n").unwrap_err();
    assert!(
        error.contains("quorate.toml:3: unknown setting node_idd; did you mean node_id?"),
        "{error}"
    );
    let error = from_file("[raft]\nheartbeat = 3\n").unwrap_err();
    assert!(
        error.contains(
            ":2: unknown setting raft.heartbeat; did you mean heartbeat_ms, under [raft]?"
        ),
        "{error}"
    );
    let error = from_file("key_bytes_max = 3\n").unwrap_err();
    assert!(error.contains("did you mean key_bytes_max, under [limits]?"), "{error}");
    let error = from_file("[limits]\nnode_id = 3\n").unwrap_err();
    assert!(error.contains("did you mean node_id, at the top of the file?"), "{error}");
    let error = from_file("in_flight_max = 3\n").unwrap_err();
    assert!(error.contains("did you mean in_flight_max, under [limits.per_caller]?"), "{error}");
    let error = from_file("zzz = 3\n").unwrap_err();
    assert!(error.contains("unknown setting zzz; `quorate serve --help`"), "{error}");
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let error = from_file("node_id = 1\nhttp_listen = \n").unwrap_err();
    assert!(error.contains("quorate.toml:2:"), "{error}");
    let error = from_file("node_id = 'one'\n").unwrap_err();
    assert!(error.contains(":1: node_id must be a whole number, not a string"), "{error}");
    let error = from_file("raft = 3\n").unwrap_err();
    assert!(error.contains(":1: raft is a section"), "{error}");
    let error = from_file("insecure = 1\n").unwrap_err();
    assert!(error.contains("insecure must be true or false, not an integer"), "{error}");
    let error = Config::load(&[], [], Some(Path::new("/no/such/file"))).unwrap_err().to_string();
    assert!(error.contains("can't read the config file /no/such/file"), "{error}");
}

#[test]
fn a_bad_value_names_its_origin() {
    let error = from_variables(&[("QUORATE_NODE_ID", "one")]).unwrap_err();
    assert!(
        error.contains("node_id (from the environment variable QUORATE_NODE_ID): \"one\""),
        "{error}"
    );
    let error = from_flags(&[("raft.heartbeat_ms", "1")]).unwrap_err();
    assert!(error.contains("(from the flag --raft-heartbeat-ms): 1 is out of range"), "{error}");
    let error = from_flags(&[("limits.key_bytes_max", "1025")]).unwrap_err();
    assert!(error.contains("from 1 to 1024"), "{error}");
}

#[test]
fn a_misspelt_variable_is_refused_and_a_foreign_one_is_not() {
    let error = from_variables(&[("QUORATE_NODEID", "2")]).unwrap_err();
    assert!(error.contains("QUORATE_NODEID is unknown; did you mean QUORATE_NODE_ID?"), "{error}");
    let error = from_variables(&[("QUORATE_CLIENT_LISTENS", "x")]).unwrap_err();
    assert!(error.contains("QUORATE_CLIENT_LISTEN?"), "{error}");
    for other in ["QUORATE_ENDPOINTS", "QUORATE_ENDPOINT", "QUORATE_NAMESPACE", "QUORATE_SIM_SEED"]
    {
        from_variables(&[(other, "x")]).unwrap();
    }
}

#[test]
fn beyond_loopback_only_with_insecure_or_secured() {
    let tls = [("tls.cert_file", "c"), ("tls.key_file", "k")];
    let auth = [("auth.enabled", "true"), ("auth.admin_token_file", "t")];
    let peers =
        [("tls.peer_cert_file", "c"), ("tls.peer_key_file", "k"), ("tls.peer_ca_file", "a")];
    for name in ["client_listen", "peer_listen", "http_listen"] {
        let listen = (name, "10.0.0.1:9000");
        let with = |more: &[&[(&'static str, &str)]]| {
            from_flags(
                &[&[listen][..]]
                    .iter()
                    .chain(more)
                    .flat_map(|some| some.iter().copied())
                    .collect::<Vec<_>>(),
            )
        };
        let error = with(&[]).unwrap_err();
        assert!(error.contains("there is no TLS") && error.contains("--insecure"), "{error}");
        let exposed = with(&[&[("insecure", "true")]]).unwrap().exposed;
        assert_eq!(exposed.len(), 1, "it is allowed, and told of: {exposed:?}");
        assert!(exposed[0].contains(name) && exposed[0].contains("there is no TLS"), "{exposed:?}");
        let needs: [&[(&str, &str)]; 2] = match name {
            "peer_listen" => [&peers, &[]],
            _ => [&tls, &auth],
        };
        assert_eq!(with(&needs).unwrap().exposed, Vec::<String>::new());
        if name != "peer_listen" {
            assert!(with(&[&tls]).unwrap_err().contains("nobody is asked who he is"));
            assert!(with(&[&auth]).unwrap_err().contains("there is no TLS"));
            with(&[&peers]).unwrap_err();
        }
    }
}

#[test]
fn files_that_belong_together_are_given_together() {
    for (flags, missing) in [
        (&[("tls.cert_file", "c")][..], "tls.key_file"),
        (&[("tls.key_file", "c")], "tls.cert_file"),
        (&[("tls.client_ca_file", "c")], "tls.cert_file"),
        (&[("tls.peer_cert_file", "c")], "tls.peer_key_file and tls.peer_ca_file is missing"),
        (&[("join_ca_file", "c")], "there is no join"),
        (&[("auth.admin_token_file", "c")], "auth.enabled is false"),
        (&[("tls.cert_file", ""), ("tls.key_file", "k")], "it is empty"),
    ] {
        let error = from_flags(flags).unwrap_err();
        assert!(error.contains(missing), "{error}");
    }
    // They are not read before the node starts, or is asked to.
    let config = from_flags(&[("tls.cert_file", "/none"), ("tls.key_file", "/none")]).unwrap();
    assert!(config.check_files().unwrap_err().to_string().contains("/none"));
}

#[test]
fn an_address_that_nobody_can_go_to_needs_another_one() {
    let error = from_flags(&[("client_listen", "0.0.0.0:1"), ("insecure", "true")]).unwrap_err();
    assert!(error.contains("client_advertise"), "{error}");
    let config = from_flags(&[
        ("client_listen", "0.0.0.0:0"),
        ("client_advertise", "broker.example:0"),
        ("insecure", "true"),
    ])
    .unwrap();
    assert_eq!(config.client_address(4711).to_string(), "broker.example:4711");
    assert!(from_flags(&[("peer_listen", "127.0.0.1:0")]).unwrap_err().contains("port 0"));
    let error = from_flags(&[("peer_listen", "0.0.0.0:1"), ("insecure", "true")]).unwrap_err();
    assert!(error.contains("peer_advertise"), "{error}");
}

#[test]
fn the_cluster_list_must_agree_with_the_node() {
    let list = ("initial_cluster", "1=127.0.0.1:8812,2=127.0.0.1:8822");
    assert!(
        from_flags(&[list, ("node_id", "3")]).unwrap_err().contains("does not list this node, 3")
    );
    let error = from_flags(&[list, ("peer_advertise", "127.0.0.1:1")]).unwrap_err();
    assert!(error.contains("make them equal"), "{error}");
    let config = from_flags(&[list, ("node_id", "2"), ("peer_listen", "127.0.0.1:8822")]).unwrap();
    assert_eq!(config.peer_advertise.to_string(), "127.0.0.1:8822");
}

#[test]
fn timing_that_cannot_work_is_refused() {
    let error =
        from_flags(&[("raft.heartbeat_ms", "200"), ("raft.election_timeout_min_ms", "300")])
            .unwrap_err();
    assert!(error.contains("two heartbeats"), "{error}");
    let error = from_flags(&[("raft.election_timeout_max_ms", "299")]).unwrap_err();
    assert!(error.contains("spread"), "{error}");
}

#[test]
fn the_example_file_says_what_the_defaults_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/quorate.toml");
    let from_example = Config::load(&[], [], Some(&path)).unwrap();
    let from_nothing = Config::load(&[], [], None).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for ((name, said), (_, default)) in from_example.effective.iter().zip(&from_nothing.effective) {
        assert_eq!(said.text, default.text, "{name} in the example file is not its default");
        let key = name.rsplit('.').next().unwrap();
        match Setting::named(name).unwrap().default {
            // As text, not as a setting: naming an id promises that there is a cluster.
            Some(_) if *name != "node_id" => {
                assert!(
                    matches!(said.origin, Origin::File(..)),
                    "{name} is not in the example file"
                );
            }
            _ => {
                assert!(
                    text.contains(&format!("\n# {key} = ")),
                    "{name} is not in the example file"
                );
            }
        }
    }
    // And the commented lines are right once the comment sign is gone; a node founds or joins.
    let active = |but: &[&str]| -> String {
        let mut section = String::new();
        let mut names = |line: &str| {
            if let Some(begun) = line.strip_prefix('[') {
                section = format!("{}.", begun.trim_end_matches(']'));
            }
            let key = line.strip_prefix("# ")?.split(" = ").next()?;
            let name = format!("{section}{key}");
            (Setting::named(&name).is_some() && !but.contains(&&*name)).then_some(())
        };
        text.lines()
            .map(|line| match names(line) {
                Some(()) => format!("{}\n", line.trim_start_matches("# ")),
                // The token's file is of use only when somebody is asked for a token.
                None if line == "enabled = false" => "enabled = true\n".to_owned(),
                None => format!("{line}\n"),
            })
            .collect()
    };
    let (_dir, path) = file(&active(&["initial_cluster"]));
    let config = Config::load(&[], [], Some(&path)).unwrap();
    let token = config.effective.iter().find(|(name, _)| *name == "join_token");
    assert_eq!(token.unwrap().1.text, "(set)", "it is a secret");
    let joins = config.join.unwrap();
    assert_eq!((joins.endpoints.len(), joins.learner), (2, false));
    assert_eq!(joins.token.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    let (_dir, path) = file(&active(&[]));
    let error = Config::load(&[], [], Some(&path)).unwrap_err().to_string();
    assert!(error.contains("joins one that is there"), "{error}");
    let (_dir, path) = file(&active(&["join", "join_token", "join_ca_file"]));
    let config = Config::load(&[], [], Some(&path)).unwrap();
    assert_eq!(config.initial_cluster.len(), 3);
}

#[test]
fn a_node_with_an_id_and_no_list_does_not_found_a_cluster() {
    let may_found = |flags: &[(&'static str, &str)]| {
        let flags: Vec<_> = flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Config::load(&flags, [], None).unwrap().may_found
    };
    assert!(may_found(&[]));
    assert!(!may_found(&[("node_id", "1")]));
    assert!(may_found(&[("node_id", "1"), ("initial_cluster", "1=127.0.0.1:8812")]));
}
