{% macro _stage_rows(rows, sql) %}
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
  {%- set staged -%}
    select staged.*, {{ dbt_enrich._row_sql(columns) }} as enrichment_row
    from (
      {{ sql }}
    ) as staged
  {%- endset -%}
  {%- do dbt_enrich.create_work_table(rows, staged) -%}
  {{ return(columns) }}
{% endmacro %}
