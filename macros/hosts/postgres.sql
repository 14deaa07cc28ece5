{#- A type's name in Postgres, as the Python package has it. -#}
{% macro postgres__host_type(data_type) %}
  {%- set kind = data_type | lower | trim -%}
  {%- if kind[-2:] == '[]' -%}
    {%- set item = dbt_enrich.postgres__host_type(kind[:-2]) -%}
    {#- Postgres wants the lists in a list to be of one length. -#}
    {{ return('jsonb' if item == 'jsonb' or item[-2:] == '[]' else item ~ '[]') }}
  {%- endif -%}
  {%- if kind[-1:] == ']' -%}
    {{ return('real[]') }}
  {%- endif -%}
  {%- if kind[:6] == 'struct' or kind[:3] == 'row' -%}
    {{ return('jsonb') }}
  {%- endif -%}
  {%- if kind[:4] == 'enum' -%}
    {{ return('text') }}
  {%- endif -%}
  {%- for name in ['decimal', 'numeric', 'dec'] if kind[:name | length] == name -%}
    {%- set digits = kind[name | length:] | replace(' ', '') -%}
    {#- DuckDB's defaults; Postgres has others. -#}
    {{ return('numeric' ~ (digits if ',' in digits else digits | replace(')', ',0)') if digits else '(18,3)')) }}
  {%- endfor -%}
  {%- for precision in ['(6)'] if precision in kind -%}
    {{ return(dbt_enrich.postgres__host_type(kind | replace(precision, ''))) }}
  {%- endfor -%}
  {%- set names = {
    'bool': 'boolean', 'logical': 'boolean',
    'tinyint': 'smallint', 'int1': 'smallint', 'utinyint': 'smallint', 'uint8': 'smallint',
    'int2': 'smallint', 'int16': 'smallint', 'short': 'smallint',
    'int': 'integer', 'int4': 'integer', 'int32': 'integer', 'integral': 'integer', 'signed': 'integer',
    'usmallint': 'integer', 'uint16': 'integer',
    'int8': 'bigint', 'int64': 'bigint', 'long': 'bigint', 'oid': 'bigint',
    'uinteger': 'bigint', 'uint32': 'bigint',
    'ubigint': 'numeric(20,0)', 'uint64': 'numeric(20,0)',
    'hugeint': 'numeric(38,0)', 'int128': 'numeric(38,0)',
    'float': 'real', 'float4': 'real', 'double': 'double precision', 'float8': 'double precision',
    'time': 'time without time zone',
    'timestamp': 'timestamp without time zone', 'datetime': 'timestamp without time zone',
    'timestamp_us': 'timestamp without time zone', 'timestamptz': 'timestamp with time zone',
  } -%}
  {%- set as_they_are = [
    'boolean', 'smallint', 'integer', 'bigint', 'real', 'double precision', 'date', 'uuid',
    'time without time zone', 'timestamp without time zone', 'timestamp with time zone',
  ] -%}
  {#- All others are texts, of whatever length. -#}
  {{ return(kind if kind in as_they_are else names.get(kind, 'text')) }}
{% endmacro %}

{% macro postgres__create_enriched_table(relation, sql) %}
  {% if config.get('contract').enforced %}
    {%- set kind = 'unlogged table' if config.get('unlogged') else 'table' -%}
    {%- do dbt_enrich._create_contracted_table(relation, sql, kind) -%}
  {% else %}
    {%- do dbt_enrich.default__create_enriched_table(relation, sql) -%}
  {% endif %}
  {%- do dbt_enrich._check_members(relation) -%}
{% endmacro %}

{% macro postgres__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {#- The members may be others than when the table was made. -#}
  {%- do dbt_enrich._drop_member_checks(target) -%}
  {%- do dbt_enrich.default__merge_enriched(target, intermediate, enriched_sql, errors_sql) -%}
  {%- do dbt_enrich._check_members(target, scans=false) -%}
{% endmacro %}

{% macro postgres__check_place(relation) %}
  {%- do dbt_enrich._refuse_long_names(relation) -%}
{% endmacro %}

{% macro postgres__publish_enriched(existing, intermediate, target, backup, enriched_sql, errors_sql) %}
  {%- do dbt_enrich.create_enriched_table(intermediate, enriched_sql) -%}
  {%- do dbt_enrich._put_errors(target, errors_sql) -%}
  {%- set views = dbt_enrich._views_on(existing, intermediate) if existing and existing.is_table else [] -%}
  {% if not views and dbt_enrich._dependents_of(existing) | length == 0 %}
    {% if existing is not none %}
      {{ adapter.rename_relation(existing, backup) }}
    {% endif %}
    {{ adapter.rename_relation(intermediate, target) }}
  {% else %}
    {#- In SQL: dbt drops from its cache what it takes to depend on a table that it has renamed. -#}
    {% call statement('rename_table') -%}
      alter table {{ existing }} rename to {{ adapter.quote(backup.identifier) }};
      alter table {{ intermediate }} rename to {{ adapter.quote(target.identifier) }}
      {%- for view in views %};
      create or replace view {{ view[0] }}{{ ' with (' ~ view[2] ~ ')' if view[2] }} as {{ view[1] }}
      {%- endfor %}
    {%- endcall %}
    {%- do dbt_enrich._drop_dependents(backup, target) -%}
  {% endif %}
  {% do create_indexes(target) %}
{% endmacro %}

{#- Views that can be those of another table: their names, what they select, and their options. -#}
{% macro _views_on(table, other) %}
  {%- set query -%}
    select
      quote_ident(namespace.nspname) || '.' || quote_ident(class.relname),
      rtrim(pg_get_viewdef(class.oid), ';'),
      coalesce(array_to_string(class.reloptions, ', '), '')
    from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    where class.relkind = 'v'
      and pg_has_role(class.relowner, 'usage')
      and exists (
        select 1
        from pg_catalog.pg_rewrite as rewrite
        join pg_catalog.pg_depend as depend on depend.objid = rewrite.oid
        where rewrite.ev_class = class.oid and depend.refobjid = {{ dbt_enrich._oid(table) }}
      )
      and not exists (
        select 1
        from pg_catalog.pg_rewrite as rewrite
        join pg_catalog.pg_depend as depend on depend.objid = rewrite.oid
        join pg_catalog.pg_attribute as used
          on used.attrelid = depend.refobjid and used.attnum = depend.refobjsubid
        where rewrite.ev_class = class.oid
          and depend.refobjid = {{ dbt_enrich._oid(table) }}
          and not exists (
            select 1 from pg_catalog.pg_attribute as new
            where new.attrelid = {{ dbt_enrich._oid(other) }}
              and new.attname = used.attname
              and new.atttypid = used.atttypid
              and new.atttypmod = used.atttypmod
              and not new.attisdropped
          )
      )
    order by 1
  {%- endset -%}
  {{ return(run_query(query).rows | list) }}
{% endmacro %}

{#- What would be dropped with a table: a description, and a view's schema, name and kind. -#}
{% macro _dependents_of(table) %}
  {%- if not table or not table.is_table -%}
    {{ return([]) }}
  {%- endif -%}
  {%- set query -%}
    select distinct
      pg_describe_object(depend.classid, depend.objid, 0),
      namespace.nspname,
      class.relname,
      case class.relkind when 'm' then 'materialized_view' else 'view' end
    from pg_catalog.pg_depend as depend
    left join pg_catalog.pg_rewrite as rewrite
      on rewrite.oid = depend.objid and depend.classid = 'pg_catalog.pg_rewrite'::regclass
    left join pg_catalog.pg_class as class on class.oid = rewrite.ev_class
    left join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    where depend.refclassid = 'pg_catalog.pg_class'::regclass
      and depend.refobjid = {{ dbt_enrich._oid(table) }}
      and depend.deptype = 'n'
      and not exists (
        select 1 from pg_catalog.pg_constraint as own
        where depend.classid = 'pg_catalog.pg_constraint'::regclass
          and own.oid = depend.objid and own.conrelid = depend.refobjid
      )
    order by 1
  {%- endset -%}
  {{ return(run_query(query).rows | list) }}
{% endmacro %}

{% macro _drop_dependents(table, target) %}
  {%- for row in dbt_enrich._dependents_of(table) -%}
    {%- do exceptions.warn(
      "model '" ~ model.name ~ "': " ~ (row[3] | replace('_', ' ') ~ ' ' ~ row[1] ~ '.' ~ row[2] if row[2] else row[0])
      ~ ' is on the previous table ' ~ target ~ ', and is dropped with it; make it again on the new one'
    ) -%}
    {%- if row[2] -%}
      {%- do adapter.drop_relation(
        api.Relation.create(database=target.database, schema=row[1], identifier=row[2], type=row[3])
      ) -%}
    {%- endif -%}
  {%- endfor -%}
{% endmacro %}

{% macro _oid(relation) %}
  {%- set name = adapter.quote(relation.schema) ~ '.' ~ adapter.quote(relation.identifier) -%}
  {{ return("to_regclass('" ~ name | replace("'", "''") ~ "')") }}
{% endmacro %}

{#- Into the errors table that is there, where it has the same columns: views on it stay. -#}
{% macro _put_errors(target, errors_sql) %}
  {%- set errors = dbt_enrich._errors_relation(target) -%}
  {%- set there = adapter.get_relation(database=errors.database, schema=errors.schema, identifier=errors.identifier) -%}
  {% if not there or not there.is_table %}
    {%- do dbt_enrich.create_work_table(errors, errors_sql) -%}
    {{ return('') }}
  {% endif %}
  {%- set new = dbt_enrich._work_relation(target, 'errors') -%}
  {%- do dbt_enrich.create_work_table(new, errors_sql) -%}
  {% if dbt_enrich._shape_of(there) == dbt_enrich._shape_of(new) %}
    {% call statement('put_errors') -%}
      truncate table {{ there }};
      insert into {{ there }} select * from {{ new }}
    {%- endcall %}
  {% else %}
    {%- do dbt_enrich._drop_dependents(there, errors) -%}
    {%- do dbt_enrich.create_work_table(errors, errors_sql) -%}
  {% endif %}
  {%- do adapter.drop_relation(new) -%}
{% endmacro %}

{% macro _shape_of(relation) %}
  {%- set shape = namespace(columns=[]) -%}
  {%- for column in adapter.get_columns_in_relation(relation) -%}
    {%- set shape.columns = shape.columns + [[column.name, column.data_type]] -%}
  {%- endfor -%}
  {{ return(shape.columns) }}
{% endmacro %}
