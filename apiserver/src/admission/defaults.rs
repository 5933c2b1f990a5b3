//! Classes that are marked as the default one, and `DefaultIngressClass`.

use async_trait::async_trait;
use kontiki_api::{
    object::meta,
    resources::{INGRESS_CLASSES, INGRESSES},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Name of the class that is marked as default; of several, the newest, and of these the first by name.
pub fn newest_default(classes: &[Value], annotations: &[&str]) -> Option<String> {
    let marked = |class: &&Value| annotations.iter().any(|name| meta::annotation(class, name) == Some("true"));
    let created = |class: &Value| meta::text(class, "creationTimestamp").to_owned();
    let mut defaults: Vec<&Value> = classes.iter().filter(marked).collect();
    defaults.sort_by(|one, other| created(other).cmp(&created(one)).then_with(|| meta::name(one).cmp(meta::name(other))));
    defaults.first().map(|class| meta::name(class).to_owned())
}

/// An Ingress that names no class gets the default one.
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&INGRESSES)
    }

    async fn mutate(&self, server: &ApiServer, _: &Request<'_>, ingress: &mut Value, _: &Value) -> Result<(), Status> {
        let named = ingress.pointer("/spec/ingressClassName").is_some_and(|class| !class.is_null());
        if named || meta::annotation(ingress, CLASS_ANNOTATION).is_some() {
            return Ok(());
        }
        if let Some(class) = newest_default(&lookup::list(server, &INGRESS_CLASSES, ""), &[DEFAULT_CLASS]) {
            ingress["spec"]["ingressClassName"] = json!(class);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_defaults_the_newest_is_taken() {
        let class = |name: &str, created: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {(DEFAULT_CLASS): default}}});
        let classes = [
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("d", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(newest_default(&classes, &[DEFAULT_CLASS]).as_deref(), Some("b"));
        assert_eq!(newest_default(&classes[3..], &[DEFAULT_CLASS]), None);
    }
}
