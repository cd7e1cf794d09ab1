//! `access …`: names of users and groups -> their numbers.

use super::Resolver;
use super::definitions::{Definitions, Granted, Tables};
use crate::plan::access::{GrantPlan, Grantee};
use tapline_api::words::GranteeKind;
use tapline_lang::ast;
use tapline_lang::ast::access::Grant;
use tapline_lang::diagnostic::{Diagnostic, quoted};

impl<'a> Resolver<'a> {
    /// Carries out `access grant`. A user that is not there is reported at the end: a later line may take the grant back.
    pub(super) fn grant(&mut self, grant: &'a Grant, tables: &mut Tables<'a>) {
        let Grant { to: ast::access::Grantee { kind, name }, .. } = grant;
        let to = self.grantee(&grant.to);
        let is_same = |known: &&Granted<'a>| match (&known.to, &to) {
            (Ok(known), Ok(to)) => known == to,
            _ => known.is_called(&grant.to),
        };
        let Some(other) = tables.access.iter().find(is_same) else {
            return tables.access.push(Granted { grant, to });
        };
        let line = self.sources().position(other.grant.to.name.span).line;
        let message = format!("{kind} {} is granted a role already", quoted(&name.value));
        let label = format!("expected one grant; line {line} has this one");
        let help = format!("take that back first: `access revoke {kind} {}`", other.grant.to.name.value);
        self.error(Diagnostic::error(name.span, message).label(label).help(help));
    }

    /// Carries out `access revoke`.
    pub(super) fn revoke(&mut self, written: &ast::access::Grantee, tables: &mut Tables<'a>) {
        let mut place = tables.access.iter().position(|granted| granted.is_called(written));
        if place.is_none() {
            match self.grantee(written) {
                Ok(to) => place = tables.access.iter().position(|known| known.to.as_ref() == Ok(&to)),
                Err(error) => return self.error(error),
            }
        }
        if let Some(place) = place {
            tables.access.remove(place);
        } else {
            let message = format!("{} {} is granted nothing", written.kind, quoted(&written.name.value));
            let error = Diagnostic::error(written.name.span, message);
            self.error(error.label("expected somebody who is granted a role"));
        }
    }

    /// Gives what is granted at the end. Who is not there is reported.
    pub(super) fn grants(&mut self, definitions: &Definitions<'a>) -> Vec<GrantPlan> {
        let mut plans = Vec::new();
        for Granted { grant: Grant { role, to: written, has_peek }, to } in &definitions.access {
            match to.clone() {
                Ok(to) => plans.push(GrantPlan {
                    to,
                    kind: written.kind,
                    name: written.name.value.clone(),
                    role: role.value,
                    has_peek: *has_peek,
                }),
                Err(error) => self.error(error),
            }
        }
        plans
    }

    /// Finds who is meant; an error says that he is not there.
    fn grantee(&self, written: &ast::access::Grantee) -> Result<Grantee, Diagnostic> {
        let ast::access::Grantee { kind, name } = written;
        let (find, of): (_, fn(u32) -> Grantee) = match kind {
            GranteeKind::Token => return Ok(Grantee::Token(name.value.clone())),
            GranteeKind::Certificate => return Ok(Grantee::Certificate(name.value.clone())),
            GranteeKind::User => (self.surroundings.names.user, Grantee::User),
            GranteeKind::Group => (self.surroundings.names.group, Grantee::Group),
        };
        if name.value.bytes().all(|byte| byte.is_ascii_digit()) {
            // chown(2): the last number stands for none
            let id = name.value.parse().ok().filter(|&id| id != u32::MAX);
            return id.map(of).ok_or_else(|| {
                Diagnostic::error(name.span, format!("no {kind} has the number {}", name.value))
                    .label("expected a number from 0 to 4294967294")
            });
        }
        match find(&name.value) {
            Ok(Some(id)) => Ok(of(id)),
            Ok(None) => {
                Err(Diagnostic::error(name.span, format!("there is no {kind} {}", quoted(&name.value)))
                    .label(format!("expected a {kind} of this machine, or its number")))
            }
            Err(error) => {
                let message = format!("{kind} {} cannot be looked up: {error}", quoted(&name.value));
                Err(Diagnostic::error(name.span, message)
                    .help(format!("a number in place of the name is not looked up: `{kind} 1000`")))
            }
        }
    }
}
