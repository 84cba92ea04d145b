//! Values that display themselves: [`Show`].

use notebook_charts::{Figure, Table, View};

/// A value that displays itself as a cell's last expression, once this trait is in scope (it is in the prelude). It can
/// be implemented for types of other crates too, such as tensors.
///
/// ```
/// use cifar_lab::display::{Show, Table, View};
///
/// struct Temperature(f64);
///
/// impl Show for Temperature {
///     fn view(&self) -> View {
///         Table::new(["temperature"]).row([format!("{} °C", self.0)]).into()
///     }
/// }
/// assert!(Temperature(21.0).view().text().ends_with("21 °C"));
/// ```
pub trait Show {
    /// What is shown, with its plain-text twin.
    fn view(&self) -> View;

    /// Shows the value; evcxr calls it on a cell's last expression.
    fn evcxr_display(&self) {
        self.view().evcxr_display();
    }
}

/// A reference shows what it refers to.
impl<T: Show + ?Sized> Show for &T {
    fn view(&self) -> View {
        (**self).view()
    }
}

impl Show for View {
    fn view(&self) -> View {
        self.clone()
    }
}

impl Show for Table {
    fn view(&self) -> View {
        Table::view(self)
    }
}

impl Show for Figure {
    fn view(&self) -> View {
        Figure::view(self)
    }
}

/// Checks that both forms of a view, which must be well-formed, contain `wanted`.
#[cfg(test)]
pub(super) fn assert_shows(view: &View, wanted: &[&str]) {
    roxmltree::Document::parse(view.content()).unwrap();
    for wanted in wanted {
        assert!(view.text().contains(wanted) && view.content().contains(wanted), "{wanted}: {}", view.text());
    }
}
