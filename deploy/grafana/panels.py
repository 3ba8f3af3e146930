"""Tables of panels to Grafana's dashboard JSON (schema 39, Grafana 10 and later).

A dashboard is rows of panels, a panel is a title, a unit and queries; this file says once what all have in common: the
data source and the namespace are variables, nothing has an id of a database, and two panels stand side by side.
"""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, HEIGHT = 24, 8  # of Grafana's grid


@dataclass(frozen=True)
class Query:
    """PromQL and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` is Grafana's id of a unit; `about` says what a reader should see in it."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    about: str = ""
    kind: str = "timeseries"
    stacked: bool = False
    width: int = COLUMNS // 2


@dataclass(frozen=True)
class Dashboard:
    """A page of panels; `variables` are (name, label, PromQL of label_values) beside data source and namespace."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str, str], ...] = field(default=())

    def document(self) -> Json:
        """What Grafana loads."""
        return {
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
            "templating": {"list": [_DATASOURCE, *(_variable(*one) for one in (_NAMESPACE, *self.variables))]},
            "panels": _placed(self.panels),
        }


_LINKS = {"type": "dashboards", "tags": ["luthier"], "title": "Luthier", "asDropdown": True, "keepTime": True}
_DATASOURCE = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
_NAMESPACE = ("namespace", "Namespace", 'label_values(up{job=~"luthier-.+"}, namespace)')


def _variable(name: str, label: str, query: str) -> Json:
    """All is the regular expression `.*`: it also takes the series of a Prometheus that sets no such label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(panels: tuple[Panel, ...]) -> list[Json]:
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        placed.append(_panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT}})
        x += panel.width
    return placed


def _panel(panel: Panel, number: int) -> Json:
    heatmap = panel.kind == "heatmap"
    defaults: Json = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _heatmap_options(panel.unit) if heatmap else _OPTIONS[panel.kind],
        "targets": [_target(query, chr(ord("A") + index), heatmap) for index, query in enumerate(panel.queries)],
    }


def _target(query: Query, ref: str, heatmap: bool) -> Json:
    legend = {"legendFormat": query.legend} if query.legend else {"legendFormat": "{{le}}" if heatmap else "__auto"}
    form = "heatmap" if heatmap else "time_series"
    return {"refId": ref, "datasource": SOURCE, "expr": query.expr, "format": form, "range": True, **legend}


_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    },
}


def _heatmap_options(unit: str) -> Json:
    """Cells are calls; the axis is the histogram's bucket."""
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
