"""The look: Gradio's variables mapped onto the product's tokens (assets/css/1_base.css has both themes)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent / "assets"
_FONTS = (
    "Inter",
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "DejaVu Sans",
    "sans-serif",
)
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")

_COLOURS: Mapping[str, str] = {
    "body_background_fill": "var(--ground)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--note)",
    "background_fill_primary": "var(--panel)",
    "background_fill_secondary": "var(--ground)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "color_accent_soft": "var(--track)",
    "link_text_color": "var(--accent-ink)",
    "link_text_color_hover": "var(--accent-ink)",
    "link_text_color_visited": "var(--accent-ink)",
    "link_text_color_active": "var(--accent-ink)",
    "block_background_fill": "transparent",
    "block_border_color": "var(--line)",
    "block_label_background_fill": "transparent",
    "block_label_text_color": "var(--note)",
    "block_title_text_color": "var(--note)",
    "block_info_text_color": "var(--note)",
    "panel_background_fill": "var(--panel)",
    "input_background_fill": "var(--field)",
    "input_background_fill_focus": "var(--field)",
    "input_background_fill_hover": "var(--field)",
    "input_border_color": "var(--line)",
    "input_border_color_focus": "var(--accent)",
    "input_border_color_hover": "var(--bar-soft)",
    "input_placeholder_color": "var(--note)",
    "button_primary_background_fill": "var(--accent-fill)",
    "button_primary_background_fill_hover": "var(--accent-hover)",
    "button_primary_border_color": "var(--accent-fill)",
    "button_primary_text_color": "var(--on-accent)",
    "button_primary_text_color_hover": "var(--on-accent)",
    "button_secondary_background_fill": "var(--panel)",
    "button_secondary_background_fill_hover": "var(--track)",
    "button_secondary_border_color": "var(--line)",
    "button_secondary_text_color": "var(--ink)",
    "checkbox_background_color": "var(--field)",
    "checkbox_background_color_selected": "var(--accent-fill)",
    "checkbox_border_color": "var(--bar-soft)",
    "checkbox_border_color_selected": "var(--accent-fill)",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": "transparent",
    "checkbox_label_background_fill_selected": "transparent",
    "checkbox_label_border_color": "transparent",
    "checkbox_label_border_color_selected": "transparent",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "slider_color": "var(--accent)",
    "loader_color": "var(--accent)",
    "table_border_color": "var(--line)",
    "stat_background_fill": "var(--track)",
}
_SHAPES: Mapping[str, str] = {
    "body_text_size": "13px",
    "block_border_width": "0px",
    "block_label_border_width": "0px",
    "block_label_text_size": "12px",
    "block_title_text_size": "12px",
    "block_title_text_weight": "400",
    "block_label_text_weight": "400",
    "block_info_text_size": "12px",
    "block_padding": "0px",
    "block_radius": "6px",
    "block_shadow": "none",
    "container_radius": "6px",
    "layout_gap": "16px",
    "form_gap_width": "0px",
    "input_padding": "8px 10px",
    "input_radius": "6px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_text_size": "13px",
    "button_large_radius": "6px",
    "button_small_radius": "6px",
    "button_medium_radius": "6px",
    "button_large_text_size": "13px",
    "button_large_text_weight": "600",
    "button_medium_text_size": "13px",
    "button_medium_text_weight": "500",
    "button_small_text_size": "12px",
    "button_large_padding": "9px 16px",
    "button_medium_padding": "8px 14px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "checkbox_shadow": "none",
    "checkbox_label_shadow": "none",
    "checkbox_label_text_size": "13px",
    "checkbox_label_padding": "4px 12px 4px 0",
    "section_header_text_size": "12px",
}


def studio_theme() -> gr.themes.Base:
    """Builds the theme: neutral greys around the image and one accent, alike in light and dark (reference
    look.md)."""
    theme = gr.themes.Base(
        font=[gr.themes.Font(name) for name in _FONTS], font_mono=[gr.themes.Font(name) for name in _MONO]
    )
    known = gr.themes.Base.set.__code__.co_varnames
    colours = dict(_COLOURS)
    dark = {f"{name}_dark": value for name, value in _COLOURS.items() if f"{name}_dark" in known}
    return theme.set(**colours, **dark, **_SHAPES)


def stylesheet() -> str:
    """Our own style: what all pages share first, then each page's part."""
    return "\n".join(path.read_text() for path in sorted((ASSETS / "css").glob("*.css")))
