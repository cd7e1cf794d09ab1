//! Rules -> inputs: for each port the steps that its packets go through, and what those steps need to know.

use std::collections::HashMap;

use super::progress::{GivenUp, Progress, Stage};
use super::resolve::{Resolved, RuleSource};
use super::value::{DedupPlan, Output, Plan, RulePlan};
use tapline_api::words::Class;
use tapline_datapath::classify::{Classifier, Matcher};
use tapline_datapath::egress::admission::Thresholds;
use tapline_datapath::ids::{EgressId, PortId, RuleId};
use tapline_datapath::route::sample::SampleSpec;
use tapline_datapath::work_plan::{InputPlan, Step, StepDedup, Straight, Target, Verdict, WorkPlan};
use tapline_packet::by_id::ById;
use tapline_packet::layers::Depth;

/// Compiles the rules of a resolved plan, which is to take the place of `before`.
pub(super) fn compile(
    resolved: Resolved,
    before: Option<&Plan>,
    progress: &Progress,
) -> Result<Plan, GivenUp> {
    let Resolved { mut plan, rules } = resolved;
    give_thresholds(&mut plan);
    keep_thresholds(&mut plan, before);
    progress.begin(Stage::Ports, plan.ports.len());
    let inputs = plan.ports.ids().map(|port| {
        progress.step()?;
        Ok(input(&plan, &rules, port))
    });
    let inputs: ById<PortId, InputPlan> = inputs.collect::<Result<_, _>>()?;
    finish(&mut plan, inputs);
    progress.go_on()?;
    Ok(plan)
}

/// Tells workers what else they need.
fn finish(plan: &mut Plan, inputs: ById<PortId, InputPlan>) {
    let (burst, idle, panic_dump) =
        (plan.settings.burst, plan.settings.idle, plan.settings.panic_dump.clone());
    let egresses = plan.egresses();
    let has_edits = plan.rules.iter().any(RulePlan::has_edits);
    let has_classes = plan.rules.iter().any(|rule| rule.class.is_some_and(|class| class != Class::Normal));
    let anonymizes = inputs.iter().any(|input| input.anonymizes);
    // what is not read is found where all is looked for
    let parse_depth = inputs
        .iter()
        .filter_map(|input| input.classifier.parse_depth())
        .chain(anonymizes.then_some(Depth::Full))
        .max()
        .unwrap_or_default();
    let anonymized = match anonymizes {
        true => plan.tools.ids().map(|tool| plan.anonymizes(tool)).collect(),
        false => ById::default(),
    };
    let stores = match plan.tools.iter().any(|tool| tool.store.is_some()) {
        true => plan.tools.iter().map(|tool| tool.store.is_some()).collect(),
        false => ById::default(),
    };
    let work = plan.work_mut();
    *work = WorkPlan {
        burst,
        idle,
        panic_dump,
        egresses,
        inputs,
        parse_depth,
        anonymized,
        stores,
        has_edits,
        has_classes,
        // groups, edits and hashes are as they were resolved
        ..std::mem::take(work)
    };
}

/// A tool that rules with a `class` send to has thresholds, unless it says its own.
fn give_thresholds(plan: &mut Plan) {
    for rule in plan.rules.iter().filter(|rule| rule.class.is_some()) {
        let tools = rule.targets.iter().flat_map(|target| match target {
            Target::Tool(tool) => std::slice::from_ref(tool),
            Target::Group(group) => &plan.work.groups[*group].members,
        });
        // a capture takes what it can
        for &tool in tools {
            if plan.tools[tool].output == Output::Capture {
                continue;
            }
            plan.tools[tool].thresholds.get_or_insert(Thresholds::DEFAULT);
        }
    }
}

/// A tool that once had thresholds keeps them when the last rule with a class goes: its queue admits what it admitted.
fn keep_thresholds(plan: &mut Plan, before: Option<&Plan>) {
    let known = before.iter().flat_map(|before| before.tools.iter());
    let known: HashMap<&str, Thresholds> =
        known.filter_map(|tool| Some((tool.name.as_str(), tool.thresholds?))).collect();
    for tool in plan.tools.iter_mut() {
        tool.thresholds = tool.thresholds.or_else(|| known.get(tool.name.as_str()).copied());
    }
}

/// Compiles the orders for a port's packets.
fn input(plan: &Plan, sources: &ById<RuleId, RuleSource>, port: PortId) -> InputPlan {
    let taking: Vec<RuleId> = plan
        .rules
        .ids()
        .filter(|&rule| plan.rules[rule].is_enabled && plan.rules[rule].sources.contains(&port))
        .collect();
    let matchers: Vec<Matcher> = taking.iter().map(|&rule| sources[rule].matcher.clone()).collect();
    let steps: Vec<Step> = taking
        .iter()
        .map(|&rule| Step {
            rule,
            mark: plan.rules[rule].mark(),
            dedup: plan.rules[rule].dedup.as_ref().and_then(|dedup| step_dedup(dedup, port)),
            is_scheduled: plan.rules[rule].schedule.is_some(),
            is_limited: plan.rules[rule].limit.is_some(),
            is_sampled: plan.rules[rule].sample.is_some(),
            sample_hash: plan.rules[rule].sample_hash,
            edits: plan.rules[rule].edits,
            duplicate_edits: plan.rules[rule].duplicate_edits,
            anonymized: plan.rules[rule].edits.and_then(|id| plan.work.edits[id].anonymizes()),
            unread: plan.rules[rule].unread.unwrap_or_default(),
            targets: plan.rules[rule].targets.clone(),
            verdict: plan.rules[rule].verdict,
            class: plan.rules[rule].class.unwrap_or_default(),
        })
        .collect();
    let balances =
        steps.iter().any(|step| step.targets.iter().any(|target| matches!(target, Target::Group(_))));
    let samplers = || taking.iter().filter_map(|&rule| plan.rules[rule].sample.as_ref());
    let wire = plan.wire_at(port);
    let way = wire.map(|(wire, side)| plan.egresses().of_wire(wire, side));
    let tools = || steps.iter().flat_map(|step| plan.tools_of(&step.targets));
    let needs_copies = tools().any(|tool| plan.makes_copies_for(tool));
    let anonymizes = steps.iter().any(|step| {
        let by_tools = || plan.tools_of(&step.targets).any(|tool| plan.anonymizes(tool).is_some());
        step.anonymized.is_some() || by_tools()
    });
    let needs_stamps = tools().any(|tool| {
        plan.needs_stamps(tool) || plan.makes_copies_for(tool) && plan.tools[tool].copy.says_time()
    });
    let others_look = balances
        || needs_copies
        || anonymizes
        || plan.is_tunnel_port(port)
        || plan.returns_heartbeats(port)
        || steps.iter().any(|step| step.sample_hash.is_some() || step.dedup.is_some());
    let classifier = if others_look { Classifier::new(&matchers) } else { Classifier::alone(&matchers) };
    let needs_frames = classifier.needs_frames() || others_look;
    let is_looked_at = needs_frames || needs_stamps || !plan.ports[port].terminators.is_empty();
    InputPlan {
        straight: if is_looked_at { None } else { straight(&steps, way) },
        needs_copies,
        anonymizes,
        wire: way,
        is_bypass: wire.is_some_and(|(wire, _)| plan.wires[wire].is_bypass),
        needs_frames,
        needs_lens: samplers().any(SampleSpec::needs_lens),
        needs_time: samplers().any(SampleSpec::needs_time)
            || steps.iter().any(|step| step.dedup.is_some() || plan.stamps_buckets(&step.targets)),
        notes_time: steps.iter().any(|step| plan.stamps_buckets(&step.targets)),
        needs_stamps,
        steps,
        classifier,
    }
}

/// The one way that all packets of an input go, if they do. No stage of it looks at them.
fn straight(steps: &[Step], wire: Option<EgressId>) -> Option<Straight> {
    let is_straight = |step: &Step| {
        let Step {
            rule: _,
            mark: _,
            dedup: None,
            is_scheduled: false,
            is_limited: false,
            is_sampled: false,
            sample_hash: _,
            edits: None,
            duplicate_edits: _,
            anonymized: None,
            unread: _,
            targets,
            verdict,
            class,
        } = step
        else {
            return false;
        };
        let go_to_tools = targets.iter().all(|target| matches!(target, Target::Tool(_)));
        go_to_tools && *verdict != Verdict::Drop && *class == Class::Normal
    };
    if !steps.iter().all(is_straight) {
        return None;
    }
    // behind a final rule that takes all there is nothing
    let last =
        steps.iter().position(|step| step.verdict == Verdict::Final).map_or(steps.len(), |at| at + 1);
    let steps = &steps[..last];
    let mut egresses: Vec<EgressId> = wire.into_iter().collect();
    for target in steps.iter().flat_map(|step| &step.targets) {
        if let Target::Tool(tool) = target
            && !egresses.contains(&tool.egress())
        {
            egresses.push(tool.egress());
        }
    }
    Some(Straight { rules: steps.iter().map(|step| step.rule).collect(), egresses })
}

/// Ports outside the scope are not compared.
fn step_dedup(dedup: &DedupPlan, port: PortId) -> Option<StepDedup> {
    let place = dedup.scope.iter().position(|&compared| compared == port)?;
    Some(StepDedup { port: u8::try_from(place).ok()?, action: dedup.action })
}
