{% macro _stage_rows(rows, sql, merged_into) %}
  {% if config.get('sql_header') %}
    {% call statement('header') -%}
      {{ config.get('sql_header') }}
    {%- endcall %}
  {% endif %}
  {%- set columns = get_columns_in_query(sql) -%}
  {%- set names = columns | map('lower') | list -%}
  {%- for key in dbt_enrich._unique_key() if key | lower not in names -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': unique_key names the column '" ~ key
      ~ "', which the SELECT does not return (columns: " ~ columns | join(', ') ~ ")"
    ) -%}
  {%- endfor -%}
  {%- for key in dbt_enrich._unique_key() if target.type == 'postgres' and key not in columns -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': unique_key names the column '" ~ key
      ~ "', but Postgres tells upper case from lower; write it as the SELECT returns it (columns: "
      ~ columns | join(', ') ~ ")"
    ) -%}
  {%- endfor -%}
  {%- if merged_into -%}
    {%- do dbt_enrich._refuse_other_columns(merged_into, columns) -%}
  {%- endif -%}
  {%- set staged -%}
    select staged.*, {{ dbt_enrich._row_sql(columns) }} as enrichment_row
    from (
      {{ sql }}
    ) as staged
    {%- if flags.EMPTY | default(false) %}
    where false
    {%- elif merged_into and dbt_enrich._waits(merged_into) %}
    {#- The SELECT yields the whole then: of that, rows are left out that are done and unchanged. #}
    where not exists (
      select 1 from {{ merged_into }} as previous
      where previous.enrichment_status = 'done'
        {%- for column in columns %}
        and previous.{{ adapter.quote(column) }} is not distinct from staged.{{ adapter.quote(column) }}
        {%- endfor %}
    )
    {%- endif %}
  {%- endset -%}
  {%- do dbt_enrich.create_work_table(rows, staged) -%}
  {{ return(columns) }}
{% endmacro %}
