"""Converts tables of panels to Grafana's dashboard JSON (schema 39, Grafana 10 and later).

A dashboard has panels, a panel a title, a unit and queries. Common to all: data source and namespace are variables, no
id belongs to one Grafana's database, and two panels are side by side.
"""

import json
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

Json = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 12, 8  # of a panel, in cells of Grafana's grid, which has 24 columns


@dataclass(frozen=True)
class Query:
    """PromQL and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One graph. `unit` is Grafana's id of a unit, `about` its description."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    heatmap: bool = False
    stacked: bool = False


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard; `query` is PromQL that lists the values."""

    name: str
    label: str
    query: str

    def document(self) -> Json:
        """The variable as Grafana loads it. "All" is `.*`, which also matches series without the label."""
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": self.query, "refId": self.name},
            "definition": self.query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True)
class Dashboard:
    """A page of panels; `variables` are those beside data source and namespace."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = ()

    def to_json(self) -> str:
        """The dashboard as Grafana loads it."""
        document = {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["luthier"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [_LINKS],
            "templating": {"list": [_DATASOURCE, *(each.document() for each in (_NAMESPACE, *self.variables))]},
            "panels": [_panel(panel, index) for index, panel in enumerate(self.panels)],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_LINKS = {"type": "dashboards", "tags": ["luthier"], "title": "Luthier", "asDropdown": True, "keepTime": True}
_DATASOURCE = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
_NAMESPACE = Variable("namespace", "Namespace", 'label_values(up{job=~"luthier-.+"}, namespace)')


def _panel(panel: Panel, index: int) -> Json:
    """The panel at a place of the dashboard: even ones on the left, odd ones on the right."""
    row, column = divmod(index, 2)
    defaults: Json = {"unit": panel.unit}
    if not panel.heatmap:
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return {
        "id": index + 1,
        "type": "heatmap" if panel.heatmap else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _heatmap_options(panel.unit) if panel.heatmap else _TIMESERIES_OPTIONS,
        "targets": [
            _target(query, letter, panel.heatmap) for query, letter in zip(panel.queries, ascii_uppercase, strict=False)
        ],
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
    }


def _target(query: Query, ref: str, heatmap: bool) -> Json:
    legend = {"legendFormat": query.legend} if query.legend else {"legendFormat": "{{le}}" if heatmap else "__auto"}
    form = "heatmap" if heatmap else "time_series"
    return {"refId": ref, "datasource": SOURCE, "expr": query.expr, "format": form, "range": True, **legend}


_TIMESERIES_OPTIONS: Json = {
    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _heatmap_options(unit: str) -> Json:
    """Each cell counts calls; the y axis is the histogram's buckets."""
    return {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "cellValues": {"unit": "short"},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
    }
