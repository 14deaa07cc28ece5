{% macro _refresh_relations() %}
  {%- if not execute or not dbt_enrich._has_plugin() -%}
    {{ return(dbt_enrich._no_statement()) }}
  {%- endif -%}
  {%- set relations = dbt_enrich._enrichment_schema() -%}

  -- `BEGIN` happens here:
  {% call statement('known', fetch_result=true) -%}
    select comment from duckdb_tables()
    where schema_name = '{{ relations.batches.schema }}' and table_name = '{{ relations.batches.identifier }}'
      and database_name = '{{ relations.batches.database }}'
  {%- endcall %}
  {%- set known = load_result('known').data -%}

  -- `COMMIT` happens here: the plugin works on a connection of its own
  {{ adapter.commit() }}
  {%- set outcome = dbt_enrich._call_plugin('relations', relations.batches, {
    'database': relations.batches.database,
    'known': known[0][0] if known else none,
  }) -%}
  {% if outcome %}
    -- `BEGIN` happens here:
    {% call statement('refresh') -%}
      create or replace table {{ relations.batches }} as ({{ outcome.batches }});
      create or replace table {{ relations.attempts }} as ({{ outcome.attempts }});
      create or replace table {{ relations.usage }} as ({{ outcome.usage }});
      {% if relations.has_comments %}
        comment on table {{ relations.batches }} is '{{ outcome.fingerprint }}'
      {% endif %}
    {%- endcall %}

    -- `COMMIT` happens here
    {{ adapter.commit() }}
    {% do dbt_enrich._call_plugin('finish', relations.batches, {'run_id': outcome.run_id}) %}
  {% endif %}
  {{ return(dbt_enrich._no_statement()) }}
{% endmacro %}
