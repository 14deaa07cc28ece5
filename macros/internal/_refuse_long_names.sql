{% macro _refuse_long_names(target) %}
  {#- What Postgres cuts off of two names may leave one, and one of their tables be lost. -#}
  {%- for name, ending in [[target.schema, '_enrichment'], [target.identifier, '__dbt_backup']] -%}
    {%- set query -%}
      select bytes from (select octet_length('{{ name | replace("'", "''") }}') as bytes) as measured
      where bytes > {{ 63 - ending | length }}
    {%- endset -%}
    {%- for row in run_query(query).rows -%}
      {%- do exceptions.raise_compiler_error(
        "model '" ~ model.name ~ "': the name '" ~ name ~ "' has " ~ row[0] ~ " bytes, and Postgres cuts names "
        ~ "off after 63, of which " ~ ending ~ " needs " ~ ending | length
        ~ "; give the table a shorter alias, or use a schema with a shorter name"
      ) -%}
    {%- endfor -%}
  {%- endfor -%}
{% endmacro %}
