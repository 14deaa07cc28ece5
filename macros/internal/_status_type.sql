{% macro _status_type(name, data_type) %}
  {#- Texts where the contract has them so; of another type, dbt says what differs. -#}
  {%- if config.get('contract').enforced and name in ['enrichment_status', 'enrichment_key'] -%}
    {%- for described in model.columns if described | lower == name -%}
      {%- set declared = model.columns[described].data_type or data_type -%}
      {%- if dbt_enrich.host_type(declared) | lower in ['varchar', 'text', 'string', 'char', 'bpchar'] -%}
        {{ return(dbt_enrich.host_type(declared)) }}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ return(dbt_enrich.host_type(data_type)) }}
{% endmacro %}
