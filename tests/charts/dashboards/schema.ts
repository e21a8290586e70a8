// The form of a dashboard by Grafana's own published types; test_schema.py adds the dashboards, one constant each part.
import type { Dashboard, Panel, RowPanel } from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as BarGauge from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type * as StateTimeline from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';
import type * as Stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as Table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as TimeSeries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type * as XYChart from '@grafana/schema/dist/types/raw/composable/xychart/panelcfg/x/types.gen';

// JSON has the value of an enum where TypeScript wants its name.
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer Item)[]
      ? Plain<Item>[]
      : T extends object
        ? { [Key in keyof T]: Plain<T[Key]> }
        : T;

// A panel leaves options and custom fields open; each plug-in has types for its own. Their types hold what a panel has
// once Grafana has filled in the defaults, files may leave those out.
type Fields = NonNullable<Panel['fieldConfig']>;
type PanelOf<Options, Custom> = Omit<Panel, 'options' | 'fieldConfig'> & {
  options?: Options;
  fieldConfig?: Omit<Fields, 'defaults'> & {
    defaults?: Omit<Fields['defaults'], 'custom'> & { custom?: Partial<Custom> };
  };
};

export type Row = Plain<RowPanel>;
export type BargaugePanel = Plain<PanelOf<BarGauge.Options, never>>;
export type StatPanel = Plain<PanelOf<Stat.Options, never>>;
export type StateTimelinePanel = Plain<PanelOf<StateTimeline.Options, StateTimeline.FieldConfig>>;
// The footer is that of Grafana up to 12.1, which later ones read.
export type TablePanel = Plain<PanelOf<Table.Options & { footer?: object }, Table.FieldConfig>>;
export type TimeseriesPanel = Plain<PanelOf<TimeSeries.Options, TimeSeries.FieldConfig>>;
export type XychartPanel = Plain<PanelOf<XYChart.Options, XYChart.FieldConfig>>;

// What the published types leave to data sources and kinds of variables: their queries, and the steps of an interval.
type Templating = NonNullable<Dashboard['templating']>;
type OfItsKind = { definition?: string; auto?: boolean; auto_min?: string; auto_count?: number };
type Variable = NonNullable<Templating['list']>[number] & OfItsKind;
type Annotation = NonNullable<NonNullable<Dashboard['annotations']>['list']>[number];
type QueryOfPrometheus = { expr?: string; titleFormat?: string; useValueForTime?: boolean };
type Annotations = (Annotation & QueryOfPrometheus)[];
export type Board = Plain<
  Omit<Dashboard, 'panels' | 'templating' | 'annotations'> & {
    templating?: { list?: Variable[] };
    annotations?: { list?: Annotations };
  }
>;
