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
  {%- set declared = namespace(columns=[]) -%}
  {% if config.get('contract').enforced %}
    {#- A contract is on the types that the table has. -#}
    {%- set outputs = dbt_enrich._options().get('output', []) | map('lower') | list -%}
    {%- for name in model.columns if name | lower in outputs -%}
      {%- set declared.columns = declared.columns + [[name, model.columns[name]]] -%}
    {%- endfor -%}
  {% endif %}
  {%- set made = namespace(columns=[]) -%}
  {%- for column in declared.columns -%}
    {%- set type = dbt_enrich.host_type(dbt_enrich._output_type(column[0])) -%}
    {%- set made.columns = made.columns + [[column[0], dict(column[1], data_type=type)]] -%}
  {%- endfor -%}
  {%- do dbt_enrich._describe_columns(made.columns) -%}
  {%- do dbt_enrich.default__create_enriched_table(relation, sql) -%}
  {%- do dbt_enrich._describe_columns(declared.columns) -%}
  {%- do dbt_enrich._check_members(relation) -%}
{% endmacro %}

{% macro postgres__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {#- The members may be others than when the table was made. -#}
  {%- do dbt_enrich._drop_member_checks(target) -%}
  {%- do dbt_enrich.default__merge_enriched(target, intermediate, enriched_sql, errors_sql) -%}
  {%- do dbt_enrich._check_members(target, scans=false) -%}
{% endmacro %}

{% macro postgres__create_work_table(relation, sql) %}
  {%- do dbt_enrich._refuse_long_names(this) -%}
  {%- do dbt_enrich.default__create_work_table(relation, sql) -%}
{% endmacro %}
