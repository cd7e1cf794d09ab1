//! The prompt before `start`: what `show config` prints makes the plan that `show plan` shows.

use tapline::control::change::Pipeline;
use tapline::control::draft::Draft;
use tapline::control::session::Answer;
use tapline::plan::{Plan, Surroundings, plan};
use tapline_lang::{Parsed, parse_text};

fn planned(text: &str) -> (Parsed, Plan) {
    let mut parsed = parse_text("test.pipe", text, &[]);
    let plan = plan(&mut parsed, &Surroundings::system());
    let plan = plan.unwrap_or_else(|| panic!("{}\n{text}", parsed.diagnostics.render(&parsed.sources)));
    (parsed, plan)
}

fn draft(text: &str) -> Draft {
    let (parsed, plan) = planned(text);
    Draft::new(Pipeline::new(parsed), plan)
}

/// Says a line that is right; returns what is answered.
fn say(draft: &mut Draft, line: &str) -> String {
    let reply = match draft.handle(line.as_bytes().to_vec()) {
        Answer::Now(reply) => reply,
        Answer::Later(_) => loop {
            if let (Some(reply), _) = draft.tick() {
                break reply;
            }
            std::thread::yield_now();
        },
    };
    assert!(reply.error.is_none(), "{line}: {reply:?}");
    reply.result
}

#[test]
fn what_show_config_prints_makes_the_plan_that_show_plan_shows() {
    let mut changed = draft(
        "let IN tap0 # a comment\nport attach ${IN} net_null0\nport  attach b net_null1 rxq 0\ntool create t port b\n\
         tool create u discard\ngroup create g tools t,u weights 2,1\nfilter create web \"tcp port 80\"\n\
         rule create 1 from ${IN} match web sample 1/10 to g\nrule create 2 from any slice 64 to u\n",
    );
    let short = say(&mut changed, "show config").len();
    for index in 0..100 {
        say(&mut changed, &format!("filter modify web \"tcp port {}\"", 80 + index));
        say(
            &mut changed,
            &format!("rule modify 1 match web slice {} sample flow 1/{}", 64 + index, 2 + index),
        );
        say(&mut changed, "rule disable 2");
        say(&mut changed, &format!("rule create 3 from ${{IN}} match \"host 198.18.0.{index}\" to t"));
        say(&mut changed, if index % 2 == 0 { "rule destroy 3" } else { "rule enable 2" });
        if index % 2 == 1 {
            say(&mut changed, "rule destroy 3");
        }
    }
    let (shown, printed) = (say(&mut changed, "show plan"), say(&mut changed, "show config"));
    assert!(
        shown.contains("filter web: \"tcp port 179\"") && shown.contains("sample flow 1/101"),
        "{shown}"
    );
    assert!(printed.len() < 2 * short, "{printed}");
    let mut again = draft(&printed);
    assert_eq!(say(&mut again, "show plan"), shown);
    assert_eq!(say(&mut again, "show config"), printed);
    // all of both plans, not only what is shown
    let (_, plan) = changed.into_parts();
    assert!(plan == planned(&printed).1, "{printed}");
}
