//! What is wrong is said clearly, with the right exit status, and nothing is started.

use tapline_harness::lab::{EAL, Lab, office, pcap_tools};

const PIPELINE: &str =
    "port attach in net_pcap0,rx_pcap=in.pcap\ntool create t discard\nrule create 1 from in to t\n";

/// What a run of `pipeline` says when it cannot begin; the exit status is 1.
fn refusal(pipeline: &str) -> String {
    let lab = Lab::new();
    office(&lab);
    lab.run(pipeline, &[]).failed(1)
}

/// What `run` and `check` say alike of a pipeline that has no place on this machine.
fn misplaced(pipeline: &str) -> String {
    let lab = Lab::new();
    office(&lab);
    let said = lab.run(pipeline, &[]).failed(2);
    assert_eq!(lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"]))).failed(2), said);
    said
}

#[test]
fn five_mistakes_are_five_errors_at_their_places_and_nothing_is_started() {
    let lab = Lab::new();
    office(&lab);
    let pipeline = "set burst 0\n\
                    port attach in net_pcap0,rx_pcap=in.pcap\n\
                    port attach out net_pcap1,tx_pcap=out.pcap rxq 0\n\
                    tool create t prot out\n\
                    tool create u port uot\n\
                    filter create web \"tcp prt 80\"\n\
                    rule create 10 from in match wbe to u\n";
    for arguments in [&["run", "test.pipe", "--stats", "stats.json"][..], &["check", "test.pipe"]] {
        lab.write("test.pipe", pipeline);
        let said = lab.end(lab.start(&mut lab.tapline(arguments))).failed(2);
        for place in [
            "test.pipe:1:11: error:",
            "test.pipe:4:15: error:",
            "test.pipe:5:20: error:",
            "test.pipe:6:19: error:",
            "test.pipe:7:30: error:",
        ] {
            assert!(said.contains(place), "{place} is not in:\n{said}");
        }
        assert_eq!(said.matches(": error:").count(), 5, "{said}");
        assert!(said.contains("5 errors; nothing was started"), "{said}");
        assert!(said.contains("a port with a similar name exists: `out` (line 3)"), "{said}");
        assert!(
            !lab.path("out.pcap").exists() && !lab.path("stats.json").exists(),
            "something was started"
        );
    }
}

#[test]
fn a_missing_capture_is_named() {
    let said = refusal(&PIPELINE.replace("in.pcap", "nowhere.pcap"));
    assert!(
        said.contains("port in: ") && said.contains("nowhere.pcap: No such file or directory"),
        "{said}"
    );
}

#[test]
fn a_misspelt_device_argument_is_named_with_the_one_that_was_meant() {
    let said = refusal(&PIPELINE.replace("rx_pcap", "rx_pcp"));
    assert!(
        said.contains("port in: rte_dev_probe") && said.contains("`rx_pcp`") && said.contains("`rx_pcap`"),
        "{said}"
    );
}

#[test]
fn packets_that_net_null_would_write_beyond_an_mbuf_are_refused() {
    let lab = Lab::new();
    for (size, status) in [(2177, 2), (65535, 2), (2048, 0)] {
        let pipeline = format!(
            "port attach in net_null0,size={size},copy=1\ntool create t discard\nrule create 1 from in to t\n"
        );
        let ended = lab.run(&pipeline, &["--duration", "100ms"]);
        assert_eq!(ended.status, Some(status), "{}", ended.stderr);
        let said = format!("test.pipe:1:16: error: net_null cannot make packets of size `{size}`");
        assert_eq!(ended.stderr.contains(&said), status == 2, "{}", ended.stderr);
    }
}

#[test]
fn a_device_without_a_driver_or_a_place_is_refused() {
    for (device, why) in [
        ("net_pcab0,rx_pcap=in.pcap", "check the devargs `net_pcab0,rx_pcap=in.pcap`"),
        ("net_pcab0,rx_pcap=in.pcap", "did you mean `net_pcap0`?"),
        ("0000:fe:1f.7", "there is no PCI device 0000:fe:1f.7"),
        ("net_af_packet0,iface=tapline-none", "there is no interface `tapline-none` here"),
    ] {
        let said = refusal(&PIPELINE.replace("net_pcap0,rx_pcap=in.pcap", device));
        assert!(said.contains("port in: rte_dev_probe: ") && said.contains(why), "{said}");
    }
}

#[test]
fn a_mempool_that_is_too_small_or_too_large_is_refused_with_what_is_needed() {
    let small = refusal(&format!("set mempool 500\n{PIPELINE}"));
    assert!(
        small.contains("mempool of 500 mbufs is too small") && small.contains("raise `set mempool`"),
        "{small}"
    );
    let large = refusal(&format!("set mempool 8000000\n{PIPELINE}"));
    assert!(large.contains("8000000 mbufs need about") && large.contains("lower `set mempool`"), "{large}");
}

#[test]
fn a_plan_that_this_machine_has_no_memory_for_is_refused_before_it_is_taken() {
    let lab = Lab::new();
    office(&lab);
    lab.write("test.pipe", format!("set mempool 2000000000\n{PIPELINE}"));
    let said = lab.end(lab.start(&mut lab.tapline(&["run", "test.pipe", "--exit-idle", "1s"]))).failed(1);
    assert!(said.contains("MiB of memory") && said.contains("lower `set mempool`"), "{said}");
}

#[test]
fn more_queues_than_the_driver_has_are_refused_with_its_number() {
    let said = refusal(&PIPELINE.replace("in.pcap\n", "in.pcap rxq 4\n"));
    assert!(
        said.contains("port in: rte_eth_rx_queue_setup: driver offers 1 queue, 4 asked; use rxq 1"),
        "{said}"
    );
}

#[test]
fn lcores_that_the_machine_lacks_are_refused() {
    for lcores in ["999", "0-1023"] {
        let said = misplaced(&format!("set lcores {lcores}\n{PIPELINE}"));
        assert!(said.contains("test.pipe:1:12: error: lcore ") && said.contains("set lcores"), "{said}");
    }
}

#[test]
fn lcores_that_a_port_asks_for_and_no_worker_has_are_refused() {
    let said = misplaced(&format!("set lcores 0\n{}", PIPELINE.replace("in.pcap\n", "in.pcap lcores 3\n")));
    assert!(
        said.contains("test.pipe:2:42: error: port in: lcores 3: this port can be polled by lcores 0"),
        "{said}"
    );
}

#[test]
fn more_workers_than_cpus_are_refused_with_the_numbers() {
    let said = misplaced(&format!("set workers 1000\n{PIPELINE}"));
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    assert!(
        said.contains(&format!("set workers 1000: this machine gives Tapline {cpus} CPUs (")),
        "{said}"
    );
    assert!(
        said.contains("test.pipe:1:13: error: ") && said.contains(&format!("expected at most {cpus}\n")),
        "{said}"
    );
    let said =
        misplaced(&format!("set workers 2\nset eal \"--lcores 9@0,(1-4)@0 --main-lcore 9\"\n{PIPELINE}"));
    assert!(said.contains("set workers 2: the EAL arguments say which lcores there are"), "{said}");
}

#[test]
fn lcores_are_named_or_chosen_but_not_both() {
    let lab = Lab::new();
    for (first, second) in [("workers 2", "lcores 1"), ("lcores receive 0 work 1", "workers 2")] {
        lab.write("test.pipe", format!("set {first}\nset {second}\n{PIPELINE}"));
        let said = lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"]))).failed(2);
        let word = |text: &str| text.split(' ').next().expect("a word").to_owned();
        let column = 6 + word(second).len();
        assert!(
            said.contains(&format!(
                "test.pipe:2:{column}: error: `set {}` beside `set {}`",
                word(second),
                word(first)
            )),
            "{said}"
        );
        assert!(said.contains(&format!("line 1 has `set {}`", word(first))), "{said}");
    }
}

#[test]
fn a_tool_that_cannot_write_is_named() {
    let said = refusal(&format!(
        "{PIPELINE}port attach out net_pcap1,tx_pcap=no/such/folder.pcap rxq 0\ntool create u port out\n"
    ));
    assert!(said.contains("port out: ") && said.contains("no/such/folder.pcap"), "{said}");
}

/// What `check` says of a pipeline that is refused.
fn check_refuses(pipeline: &str) -> String {
    let lab = Lab::new();
    lab.write("test.pipe", pipeline);
    lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"]))).failed(2)
}

#[test]
fn words_that_would_do_nothing_are_refused() {
    let of_discard = "`WORD` does not apply to discard `t`";
    for (words, word) in [
        ("queue 10", "queue"),
        ("rate 1pps burst 1ms", "rate"),
        ("thresholds 10%,20%", "thresholds"),
        ("alarm 10% hold 100ms", "alarm"),
        ("down-after 5s", "down-after"),
        ("up-after 5s", "up-after"),
        ("order window 1ms", "order"),
    ] {
        let said = check_refuses(&PIPELINE.replace("discard", &format!("discard {words}")));
        assert!(
            said.contains("test.pipe:2:23: error: ") && said.contains(&of_discard.replace("WORD", word)),
            "{said}"
        );
    }
    // a tool on a port that there is not has one mistake, not two
    let said = check_refuses(&PIPELINE.replace("discard", "port nowhere queue 10 rate 1pps"));
    assert_eq!(said.matches(": error: ").count(), 1, "{said}");
    let said = check_refuses(&PIPELINE.replace("discard", "capture out.pcapng queue 10 bytes 100"));
    assert!(said.contains("test.pipe:2:49: error: `bytes` does not apply to capture `t`"), "{said}");
    let said = check_refuses(&PIPELINE.replace("in.pcap\n", "in.pcap rxq 0 lcores 1\n"));
    assert!(said.contains("test.pipe:1:48: error: `lcores` does not apply to port `in`"), "{said}");
}

#[test]
fn filters_that_ask_what_only_a_kernel_knows_are_refused_at_their_places() {
    for expression in ["inbound and tcp port 80", "not outbound", "ifindex 3"] {
        let said = check_refuses(&PIPELINE.replace("from in", &format!("from in match \"{expression}\"")));
        assert!(said.contains("test.pipe:3:") && said.contains("not supported on Ethernet"), "{said}");
        assert!(said.contains("`from PORT` says where a rule's packets come from"), "{said}");
    }
}

#[test]
fn net_af_xdp_is_not_told_to_do_without_a_receive_queue() {
    let lab = Lab::new();
    office(&lab);
    let pipeline = |queues: &str, rule: &str| {
        format!(
            "{PIPELINE}port attach x net_af_xdp0,iface=lo{queues}\ntool create out port x\nrule create 2 from in to out\n{rule}"
        )
    };
    let check = |pipeline: &str| {
        lab.write("test.pipe", pipeline);
        lab.end(lab.start(&mut lab.tapline(&["check", "test.pipe"])))
    };
    let warned = check(&pipeline("", ""));
    assert!(warned.status == Some(0) && !warned.stderr.contains("`rxq 0`"), "{}", warned.stderr);
    assert!(warned.stderr.contains("a rule `from x drop` excludes what comes"), "{}", warned.stderr);
    assert_eq!(check(&pipeline("", "rule create 3 from x drop\n")).stderr, "", "the advice is good");
    assert_eq!(check(&pipeline(" rxq 2 txq 2", "rule create 3 from x drop\n")).stderr, "");
    for queues in [" rxq 0", " txq 0", " rxq 2 txq 1"] {
        let said = check(&pipeline(queues, "")).failed(2);
        assert!(
            said.contains("test.pipe:4:36: error: net_af_xdp has as many receive as transmit queues"),
            "{said}"
        );
    }
}

#[test]
fn wrong_command_lines_end_with_status_2() {
    let lab = Lab::new();
    lab.write("test.pipe", PIPELINE);
    for (arguments, expected) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&[], "Usage: tapline"),
        (&["run"], "<FILE>"),
        (&["run", "test.pipe", "--duration", "10"], "invalid value '10' for '--duration"),
        (&["run", "test.pipe", "--exit-idle", "5q"], "expected a duration"),
        (&["run", "test.pipe", "--set", "X"], "expected NAME=VALUE"),
        (&["run", "test.pipe", "--interval"], "--interval"),
        (&["run", "test.pipe", "--no-such-flag"], "--no-such-flag"),
        (&["check", "no-such-file.pipe"], "no-such-file.pipe: error: cannot read the file"),
        (&["run", "no-such-file.pipe"], "no-such-file.pipe: error: cannot read the file"),
    ] {
        let said = lab.end(lab.start(&mut lab.tapline(arguments))).failed(2);
        assert!(said.contains(expected), "{arguments:?} says:\n{said}");
    }
}

#[test]
fn unusable_eal_arguments_are_shown_with_all_that_eal_was_given() {
    let lab = Lab::new();
    office(&lab);
    lab.write("test.pipe", PIPELINE);
    let said = lab
        .end(lab.start(&mut lab.tapline(&["run", "test.pipe", "--eal", "--no-such-argument"])))
        .failed(1);
    assert!(said.contains("error: EAL: rte_eal_init: ") && said.contains("--no-such-argument"), "{said}");
}

#[test]
fn statistics_that_cannot_be_written_are_refused_at_the_start() {
    let lab = Lab::new();
    office(&lab);
    lab.write("test.pipe", format!("{PIPELINE}{}", pcap_tools(&["out"])));
    let arguments =
        ["run", "test.pipe", "--eal", EAL, "--exit-idle", "1s", "--stats", "no/such/folder.json"];
    let said = lab.end(lab.start(&mut lab.tapline(&arguments))).failed(1);
    assert!(said.contains("error: no/such/folder.json: No such file or directory"), "{said}");
    assert!(!lab.path("out.pcap").exists(), "something was started");
}

#[test]
fn statistics_that_no_longer_fit_their_disk_fail_the_run() {
    if !std::path::Path::new("/dev/full").exists() {
        tapline_skip::skipped("no /dev/full");
        return;
    }
    let lab = Lab::new();
    office(&lab);
    lab.write("test.pipe", PIPELINE);
    let arguments = ["run", "test.pipe", "--eal", EAL, "--exit-idle", "300ms", "--stats", "/dev/full"];
    let said = lab.end(lab.start(&mut lab.tapline(&arguments))).failed(1);
    assert!(said.contains("/dev/full") && said.contains("No space left on device"), "{said}");
}

#[test]
fn more_tools_for_a_packet_than_an_mbuf_counts_are_refused() {
    let to_tools = |count: usize| {
        let mut pipeline = String::from("port attach in net_pcap0,rx_pcap=in.pcap\nset mempool 4095\n");
        (0..count).for_each(|tool| pipeline += &format!("tool create t{tool} discard\n"));
        let names = |tools: std::ops::Range<usize>| {
            tools.map(|tool| format!("t{tool}")).collect::<Vec<_>>().join(",")
        };
        pipeline
            + &format!(
                "rule create 10 from in to {}\nrule create 20 from in to {}\n",
                names(0..200),
                names(100..count)
            )
    };
    let lab = Lab::new();
    office(&lab);
    let account = lab.account(&to_tools(255), &[]);
    assert_eq!(account.number("copies/requested"), 255 * account.number("packets/received"));
    let said = lab.run(&to_tools(256), &[]).failed(2);
    assert!(
        said.contains("test.pipe:260:13: error: a packet of port `in` would go to 256 tools and groups"),
        "{said}"
    );
    assert!(said.contains("expected at most 255 of all its rules together"), "{said}");
}

#[test]
fn tables_that_the_machine_has_no_memory_for_are_refused_before_they_are_made() {
    let rules: String = (0..20)
        .map(|rule| format!("rule create {rule} from in dedup window 1s memory 64Gi to t\n"))
        .collect();
    let said = refusal(&PIPELINE.replace("rule create 1 from in to t\n", &rules));
    assert!(
        said.contains("what rules remember takes 1310720 MiB of memory")
            && said.contains("lower `set flows`"),
        "{said}"
    );
}
