{% macro _other_catalog(relation) %}
  {#- Of what DuckDB attaches, the command works in its own files alone. -#}
  {%- if target.type != 'duckdb' -%}
    {{ return('') }}
  {%- endif -%}
  {%- set query -%}
    select type from duckdb_databases()
    where lower(database_name) = lower('{{ relation.database | replace("'", "''") }}')
      and type not in ('duckdb', 'motherduck')
  {%- endset -%}
  {%- for row in run_query(query).rows -%}
    {{ return(row[0]) }}
  {%- endfor -%}
  {{ return('') }}
{% endmacro %}
