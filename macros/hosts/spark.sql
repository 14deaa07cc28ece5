{% macro spark__fingerprint(columns) %}
  {#- As JSON each value of a type is a text of its own; `dbt_enrich.spark` writes the same. -#}
  {%- set digests -%}
    {%- for column in columns -%}
      {{ '' if loop.first else ', ' }}md5(to_json(struct({{ adapter.quote(column) }}), map(
        'timestampFormat', 'yyyy-MM-dd\'T\'HH:mm:ss.SSSSSSXXX',
        'timestampNTZFormat', 'yyyy-MM-dd\'T\'HH:mm:ss.SSSSSS'
      )))
    {%- endfor -%}
  {%- endset -%}
  {{ return("md5(concat_ws(',', " ~ digests ~ "))") }}
{% endmacro %}

{% macro spark__host_type(data_type) %}
  {#- As `warehouse/catalogs.py` of the Python package has it. -#}
  {%- set text = data_type | trim -%}
  {%- if text[-1:] == ']' -%}
    {%- set item = text.split('[')[:-1] | join('[') -%}
    {{ return('array<' ~ dbt_enrich.spark__host_type(item) ~ '>') }}
  {%- endif -%}
  {%- set name = text.split('(')[0].split(' ') | select | join(' ') | lower -%}
  {%- set inner = text.split('(')[1:] | join('(') -%}
  {%- set inner = inner[:-1] if inner[-1:] == ')' else inner -%}
  {%- if name in ['struct', 'row'] -%}
    {%- set fields = namespace(listed='') -%}
    {%- for field in dbt_enrich._type_fields(inner) -%}
      {%- set fields.listed = fields.listed ~ ('' if loop.first else ', ')
        ~ '`' ~ field[0] | replace('`', '``') ~ '`: ' ~ dbt_enrich.spark__host_type(field[1]) -%}
    {%- endfor -%}
    {{ return('struct<' ~ fields.listed ~ '>') }}
  {%- endif -%}
  {%- if name in ['decimal', 'numeric', 'dec'] -%}
    {{ return('decimal(' ~ (inner or '18, 3') ~ ('' if ',' in inner or not inner else ', 0') ~ ')') }}
  {%- endif -%}
  {%- set names = {
    'boolean': ['bool', 'logical'],
    'tinyint': ['int1'],
    'smallint': ['int2', 'int16', 'short', 'utinyint', 'uint8'],
    'int': ['integer', 'int4', 'int32', 'signed', 'integral', 'usmallint', 'uint16'],
    'bigint': ['int8', 'int64', 'long', 'oid', 'uinteger', 'uint32'],
    'decimal(20, 0)': ['ubigint', 'uint64'],
    'float': ['float4', 'real'],
    'double': ['float8', 'double precision'],
    'date': [],
    'timestamp': ['timestamp with time zone', 'timestamptz'],
    'timestamp_ntz': ['timestamp without time zone', 'timestamp_us', 'datetime'],
  } -%}
  {%- set name = 'timestamp_ntz' if name == 'timestamp' else name -%}
  {%- set name = 'timestamp' if name == 'timestamp with time zone' else name -%}
  {%- for own, others in names.items() if name == own or name in others -%}
    {{ return(own) }}
  {%- endfor -%}
  {{ return('string') }}
{% endmacro %}

{% macro _spark_format() %}
  {{ return(config.get('file_format') or 'parquet') }}
{% endmacro %}

{% macro _spark_replaces() %}
  {#- Delta and Iceberg put a table in the place of another in one step. -#}
  {{ return(dbt_enrich._spark_format() in ['delta', 'iceberg']) }}
{% endmacro %}

{% macro _drop_other_format(relation) %}
  {%- set there = adapter.get_relation(database=relation.database, schema=relation.schema, identifier=relation.identifier) -%}
  {%- set is_same = there and ((there.is_delta and dbt_enrich._spark_format() == 'delta')
    or (there.is_iceberg and dbt_enrich._spark_format() == 'iceberg')) -%}
  {%- if there and not is_same -%}
    {%- do adapter.drop_relation(there) -%}
  {%- endif -%}
{% endmacro %}

{% macro spark__create_work_table(relation, sql) %}
  {%- do dbt_enrich._drop_other_format(relation) -%}
  {% call statement('create_work_table') -%}
    create {{ 'or replace ' if dbt_enrich._spark_replaces() }}table {{ relation }}
    using {{ dbt_enrich._spark_format() }} as
    {{ sql }}
  {%- endcall %}
{% endmacro %}

{% macro spark__create_enriched_table(relation, sql) %}
  {% if not config.get('contract').enforced %}
    {{ return(dbt_enrich.default__create_enriched_table(relation, sql)) }}
  {% endif %}
  {%- set columns = dbt_enrich._contract_columns() -%}
  {%- do dbt_enrich._refuse_breach(columns, sql) -%}
  {% call statement('main') -%}
    create {{ 'or replace ' if dbt_enrich._spark_replaces() }}table {{ relation }}
    {{ file_format_clause() }}
    {{ options_clause() }}
    {{ tblproperties_clause() }}
    {{ partition_cols(label='partitioned by') }}
    {{ clustered_cols(label='clustered by') }}
    {{ location_clause() }}
    {{ comment_clause() }}
    as
    select {{ dbt_enrich._contract_names(columns) }} from (
      {{ sql }}
    ) as contracted
  {%- endcall %}
{% endmacro %}

{% macro spark__publish_enriched(existing, intermediate, target, backup, enriched_sql, errors_sql) %}
  {%- set errors = dbt_enrich._errors_relation(target) -%}
  {% if dbt_enrich._spark_replaces() %}
    {%- do dbt_enrich.create_work_table(errors, errors_sql) -%}
    {%- do dbt_enrich._drop_other_format(target) -%}
    {%- do dbt_enrich.create_enriched_table(target, enriched_sql) -%}
    {{ return('') }}
  {% endif %}
  {%- if config.get('location_root') -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': location_root keeps a table of the format "
      ~ dbt_enrich._spark_format() ~ " in the place where the next one is to be written; "
      ~ "leave it out, or write file_format: delta"
    ) -%}
  {%- endif -%}
  {%- set new_errors = dbt_enrich._beside(errors, '__dbt_tmp') -%}
  {%- do dbt_enrich.create_work_table(new_errors, errors_sql) -%}
  {%- do dbt_enrich.create_enriched_table(intermediate, enriched_sql) -%}
  {#- Errors first, each whole: for a moment between two names a table is not there. -#}
  {%- set old_errors = dbt_enrich._beside(errors, '__dbt_backup') -%}
  {%- do dbt_enrich.put_in_place(new_errors, errors, old_errors) -%}
  {%- do adapter.drop_relation(old_errors) -%}
  {%- do dbt_enrich.put_in_place(intermediate, target, backup) -%}
  {%- do adapter.drop_relation(backup) -%}
{% endmacro %}

{% macro spark__merge_enriched(target, intermediate, enriched_sql, errors_sql) %}
  {#- Tables that rows cannot be deleted of are built anew, of what stays and what is new. -#}
  {%- set source = dbt_enrich._work_relation(target, 'merged') -%}
  {%- do dbt_enrich.create_work_table(source, enriched_sql) -%}
  {%- set errors = dbt_enrich._errors_relation(target) -%}
  {%- set there = dbt_enrich.put_back(errors) -%}
  {%- set errors_select = dbt_enrich._merged_sql(errors, source, errors_sql) if there else errors_sql -%}
  {%- set select = dbt_enrich._merged_sql(target, source, 'select * from ' ~ source) -%}
  {%- do dbt_enrich.spark__publish_enriched(
    target, intermediate, target, dbt_enrich._beside(target, '__dbt_backup'), select, errors_select
  ) -%}
  {%- do adapter.drop_relation(source) -%}
{% endmacro %}

{% macro _merged_sql(target, source, sql) %}
  {%- set columns = get_columns_in_query(sql) -%}
  {%- set names = namespace(new='', old='') -%}
  {%- for column in columns -%}
    {%- set comma = '' if loop.first else ', ' -%}
    {%- set names.new = names.new ~ comma ~ adapter.quote(column) -%}
    {%- set names.old = names.old ~ comma ~ 'target.' ~ adapter.quote(column) -%}
  {%- endfor -%}
  {%- set select -%}
    select {{ names.new }} from (
      {{ sql }}
    ) as rows_of_source
    union all
    select {{ names.old }} from {{ target }} as target
    left anti join {{ source }} as source on {{ dbt_enrich._same_key('source', 'target') }}
  {%- endset -%}
  {{ return(select) }}
{% endmacro %}

{% macro _beside(relation, ending) %}
  {{ return(relation.incorporate(path={'identifier': relation.identifier ~ ending}, type='table')) }}
{% endmacro %}

{% macro put_in_place(new, target, backup) %}
  {{ return(adapter.dispatch('put_in_place', 'dbt_enrich')(new, target, backup)) }}
{% endmacro %}

{% macro default__put_in_place(new, target, backup) %}
  {%- set there = adapter.get_relation(database=target.database, schema=target.schema, identifier=target.identifier) -%}
  {%- do adapter.drop_relation(backup) -%}
  {% if there and there.is_table %}
    {{ adapter.rename_relation(there, backup) }}
  {% elif there %}
    {%- do adapter.drop_relation(there) -%}
  {% endif %}
  {{ adapter.rename_relation(new, target) }}
{% endmacro %}

{% macro put_back(relation) %}
  {{ return(adapter.dispatch('put_back', 'dbt_enrich')(relation)) }}
{% endmacro %}

{% macro default__put_back(relation) %}
  {{ return(load_cached_relation(relation)) }}
{% endmacro %}

{% macro spark__put_back(relation) %}
  {#- A run that was killed between two renames has left it under the other name. -#}
  {%- set there = load_cached_relation(relation) -%}
  {%- set away = load_cached_relation(dbt_enrich._beside(relation, '__dbt_backup')) -%}
  {%- if there or not away -%}
    {{ return(there) }}
  {%- endif -%}
  {%- set back = relation.incorporate(type='table') -%}
  {%- do adapter.rename_relation(away, back) -%}
  {{ return(back) }}
{% endmacro %}

{% macro sail__put_in_place(new, target, backup) %}
  {#- Sail renames no table, and replaces one of any format. -#}
  {%- set there = adapter.get_relation(database=target.database, schema=target.schema, identifier=target.identifier) -%}
  {% if there and not there.is_table %}
    {%- do adapter.drop_relation(there) -%}
  {% endif %}
  {% call statement('put_in_place') -%}
    create or replace table {{ target }} using {{ dbt_enrich._spark_format() }} as select * from {{ new }}
  {%- endcall %}
  {%- do adapter.drop_relation(new) -%}
{% endmacro %}
